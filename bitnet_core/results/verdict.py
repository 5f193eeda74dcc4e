"""Which training is better on held-out text, by how much and whether that can be said; and what differs: in words.

Where both evaluations scored the same held-out answers, the difference is taken answer by answer (`paired.py`). Else
the difference of two estimates with 95 % intervals of half-widths a and b is beyond chance if it exceeds √(a² + b²).
Trainings that have not seen the same are put beside each other after the same tokens; while one of them is
unfinished, nothing is called better. One that has diverged is worse than one that is finished and has a lower loss.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitnet_core.results.differing import IN_THE_MIDDLE, Difference, settings_of, shown
from bitnet_core.results.figures import LAST, LOWEST, Figure, half_widths
from bitnet_core.results.paired import Z95, half_width
from bitnet_core.results.same_tokens import SAME_TOKENS, Standing, standings
from bitnet_core.results.subject import EVAL, Subject
from bitnet_core.text import count, crop, finite, listed, number, share, significant

LETTERS = "ABCDEFGH"
"""What stands for each of those compared where there is no room for its name, and on its curve."""
_NAMED_SETTINGS, _VALUE_CELLS = 3, 32
_LEVEL_WORDS = "they were level"
_FAR = 5.0
"""A difference of more than this many times the half interval of one is beyond chance, even without the other's."""
_LEVEL = 0.01
"""Between measurements, a smaller share of the loss counts as no difference."""
_WEIGHTS = ("KD_TAU", "KD_WEIGHT", "KD_CE_WEIGHT")
"""What the held-out loss is made with: the losses of two trainings compare only where these are the same."""
_MADE_WITH = {LAST: _WEIGHTS, LOWEST: _WEIGHTS, "flip_shock": _WEIGHTS, "heldout_kl": ("KD_TAU",)}
"""Which of these each measure is made with."""


@dataclass(frozen=True)
class Contender:
    """One of those compared; `place` is where it stands among them."""

    place: int
    subject: Subject
    figures: dict[str, Figure]

    @property
    def letter(self) -> str:
        return LETTERS[self.place]

    @property
    def tokens(self) -> float | None:
        """On how many held-out tokens it was measured."""
        return finite(getattr(self.subject.training.held_out, "heldout_tokens", None))


@dataclass(frozen=True)
class Verdict:
    """`headline`: which is better and by how much. `reasons`: whether that can be said, and how it came about."""

    headline: str
    reasons: str = ""


def verdict(contenders: Sequence[Contender], differing: Sequence[Difference], apart: str) -> Verdict:
    """A few sentences on which is better; `settings_words` has what differs.

    `apart` is the clause that says why their held-out figures can't be compared; empty if they can.
    """
    weighted = [one for one in differing if one.name in _WEIGHTS]
    measure, title = ("heldout_ce", "held-out CE") if weighted else ("heldout_loss", "held-out loss")
    names = " and ".join(one.name for one in weighted)
    weighting = f"Their losses are weighted differently ({names}), so CE is compared instead." if weighted else ""
    if apart:
        return _each_by_itself(contenders, apart)
    lost = [one for one in contenders if one.subject.diverged]
    left = [one for one in contenders if one not in lost]
    if any(one.subject.unfinished for one in left) or not _are_worse(lost, left, measure):
        return _so_far(contenders, measure, title, weighting)
    ranked = sorted((one for one in left if measure in one.figures), key=lambda one: one.figures[measure].value)
    silent = [one.letter for one in left if measure not in one.figures]
    if lost and len(ranked) == 1:
        return Verdict(
            _than_lost(ranked[0], lost, measure, title), " ".join(filter(None, (weighting, _no(silent, title))))
        )
    if len(ranked) < 2:
        some = "None of them has a held-out loss yet"
        if ranked:
            some = f"Only {ranked[0].letter} has a held-out loss so far"
        return Verdict(f"{some}, so nothing can be said of which is better.")
    best, second = ranked[:2]
    low, high = best.figures[measure].value, second.figures[measure].value
    reasons = [weighting]
    sure = True
    if not _look_alike(low, high):
        sure, why = _allowed(ranked, measure, high - low, differing)
        reasons += [f"The difference is {significant(high - low, 2)} nats per token.", why]
    headline = _which(best, ranked[1:], measure, title, sure)
    if not_the_same := _seen(ranked):
        there, flipped = _not_the_same(ranked, contenders, measure, title)
        headline, reasons = f"{there} {headline}", [*reasons, not_the_same, flipped]
    if lost:
        headline = f"{listed([_diverged(one) for one in lost])}. {headline}"
    return Verdict(headline, " ".join(filter(None, [*reasons, _no(silent, title)])))


def _no(silent: Sequence[str], title: str) -> str:
    """A sentence that names those without such a loss; empty if all have one."""
    return f"{listed(silent)} {'has' if len(silent) == 1 else 'have'} no {title} yet." if silent else ""


def _are_worse(lost: Sequence[Contender], left: Sequence[Contender], measure: str) -> bool:
    """Whether those that diverged are worse than the best that did not: one of them may have been better before."""
    known = [one.figures[measure].value for one in left if measure in one.figures]
    return not lost or (
        bool(known) and all(measure not in one.figures or one.figures[measure].value > min(known) for one in lost)
    )


def _diverged(one: Contender) -> str:
    return f"{one.letter} diverged ({one.subject.diverged})"


def _than_lost(best: Contender, lost: Sequence[Contender], measure: str, title: str) -> str:
    """That the only one with a result is better than those that diverged."""
    who = listed([_diverged(one) for one in lost])
    measured = sorted((one for one in lost if measure in one.figures), key=lambda one: one.figures[measure].value)
    if measured:
        return f"{who}. {_which(best, measured, measure, title, sure=True)}"
    return f"{who}, so {best.letter} is better, with a {title} of {significant(best.figures[measure].value, 4)}."


def _each_by_itself(contenders: Sequence[Contender], why: str) -> Verdict:
    """That they can't be compared, and what each has by its own measure."""
    told = []
    for one in contenders:
        loss, agreement = one.figures.get(LAST), one.figures.get("heldout_agreement")
        parts = [f"held-out loss {significant(loss.value, 4)}"] if loss else []
        parts += [f"agreement {share(agreement.value)}"] if agreement else []
        told += [f"{one.letter}: {', '.join(parts)}"] if parts else []
    values = f" Each by its own measure: {'; '.join(told)}." if told else ""
    return Verdict(f"They can't be compared on held-out text: {why}.{values}")


def _so_far(contenders: Sequence[Contender], measure: str, title: str, weighting: str) -> Verdict:
    """Who is unfinished, and how all stand after the same number of tokens."""
    training = [one.letter for one in contenders if one.subject.trains]
    ended = [one for one in contenders if one.subject.unfinished and not one.subject.trains]
    who = [f"{listed(training)} still {'trains' if len(training) == 1 else 'train'}"] if training else []
    who += [_diverged(one) for one in ended if one.subject.diverged]
    for failed, words in ((True, "failed"), (False, "stopped early")):
        some = [one.letter for one in ended if not one.subject.diverged and one.subject.failed == failed]
        who += [f"{listed(some)} {words}"] if some else []
    measured = [one for one in contenders if one.subject.training.points(measure)]
    there, flipped = _after_the_same(measured if len(measured) > 1 else contenders, contenders, measure, title)
    seen = {one.letter: one.figures["seen_tokens"].value for one in contenders if "seen_tokens" in one.figures}
    values = ", ".join(
        f"{one.letter} {count(seen[one.letter]) if one.letter in seen else 'none'}" for one in contenders
    )
    reasons = [weighting, f"Seen so far: {values} tokens." if seen else "", flipped]
    return Verdict(
        f"{listed(who)}, so none is called better{' yet' if training else ''}. {there}",
        " ".join(filter(None, reasons)),
    )


def _not_the_same(ranked: Sequence[Contender], of: Sequence[Contender], measure: str, title: str) -> tuple[str, str]:
    """That they have not seen the same, and how they stood where they had; and which had flipped by then."""
    if len(ranked) > 2:
        there, flipped = _after_the_same(ranked, of, measure, title)
        return f"They have not seen the same number of tokens. {there}", flipped
    less, more = sorted(ranked, key=lambda one: one.figures["seen_tokens"].value)
    times = more.figures["seen_tokens"].value / less.figures["seen_tokens"].value
    saw = f"{more.letter} saw {_times_words(times)} {less.letter}"
    some, after, found = _standings(ranked, measure)
    if not found:
        return f"{saw}; there is no number of tokens after which both were measured.", ""
    standing = sorted(zip(some, found, strict=True), key=lambda pair: pair[1].value)
    (low, lower), (high, higher) = standing
    if lower.below(higher):
        against = f"; {high.letter}" if higher.from_start else " against"
        words = f"{low.letter} was lower ({lower.words}{against} {higher.words})"
    elif lower.words == higher.words:
        words = f"{_LEVEL_WORDS} at {lower.words}"
    elif not lower.from_start and not higher.from_start and higher.value - lower.value < _LEVEL * higher.value:
        words = f"{_LEVEL_WORDS}: {low.letter} {lower.words}, {high.letter} {higher.words}"
    else:
        at_low, at_high = ("" if one.from_start else "at " for one in (lower, higher))
        words = f"{low.letter} was {at_low}{lower.words}, {high.letter} {at_high}{higher.words}"
    return f"{saw}; at {count(after)} {words}.", _flipped(some, after, [one.tokens for one in found])


def _times_words(times: float) -> str:
    """How many more tokens: `6 times as many tokens as`, `33% more tokens than`."""
    if times < 1.5:
        return f"{times - 1:.0%} more tokens than"
    written = f"{times:.2g}" if times < 10 else number(round(times))
    return f"{'twice' if written == '2' else f'{written} times'} as many tokens as"


def _standings(some: Sequence[Contender], measure: str) -> tuple[list[Contender], float, list[Standing]]:
    """These in the order of their letters, a number of tokens, and how each stands there."""
    placed = sorted(some, key=lambda one: one.place)
    return placed, *standings([one.subject.training.points(measure) for one in placed])


def _after_the_same(some: Sequence[Contender], of: Sequence[Contender], measure: str, title: str) -> tuple[str, str]:
    """How these stand after the same number of tokens, and which have flipped by then.

    `of` are all that are compared.
    """
    who = listed(sorted(one.letter for one in some)) if len(some) < len(of) else "both" if len(of) == 2 else "all"
    some, after, found = _standings(some, measure)
    if silent := [one for one in some if not one.subject.training.points(measure)]:
        names = listed([f"{one.letter} ({one.subject.name})" for one in silent])
        return f"{names} {'has' if len(silent) == 1 else 'have'} no {title} yet.", ""
    if not found:
        yet = " yet" if any(one.subject.trains for one in some) else ""
        return f"There is no number of tokens{yet} after which {who} were measured.", ""
    values = ", ".join(f"{one.letter} {standing.words}" for one, standing in zip(some, found, strict=True))
    where = f", where {who} were measured," if all(one.measured for one in found) else ""
    words = f"After {count(after)} tokens{where} {title} is {values}."
    return words, _flipped(some, after, [one.tokens for one in found])


def _flipped(some: Sequence[Contender], about: float, after: Sequence[float]) -> str:
    """Who computes with fewer bits after about these tokens, if not all do: that alone costs loss."""
    flips = [one.subject.training.flip for one in some]
    done = [flip is not None and flip.seen_tokens <= tokens for flip, tokens in zip(flips, after, strict=True)]
    if all(done) or not any(done):
        return ""
    bits = min(flip.to_bits for flip, there in zip(flips, done, strict=True) if flip is not None and there)
    flipped, others = (
        [one.letter for one, there in zip(some, done, strict=True) if there == way] for way in (True, False)
    )
    return (
        f"After {count(about)} tokens {listed(flipped)} had flipped to {bits}-bit activations, "
        f"{listed(others)} had not."
    )


def _which(best: Contender, others: Sequence[Contender], measure: str, title: str, sure: bool) -> str:
    """Who is better, and by how much. Unless that is `sure`, it only looks so."""
    low, high = (one.figures[measure].value for one in (best, others[0]))
    first, *rest = (f"{one.letter} {significant(one.figures[measure].value, 4)}" for one in others)
    if _look_alike(low, high):
        against = f", against {', '.join(rest)}" if rest else ""
        return f"{best.letter} and {others[0].letter} are alike on {title}: {significant(low, 4)}{against}."
    less = f" ({(high - low) / high:.1%} less)" if high > 0 else ""
    verb = "is" if sure else "looks"
    against = ", ".join((f"{first}{less}", *rest))
    return f"{best.letter} {verb} better on {title}: {significant(low, 4)} against {against}."


def _look_alike(low: float, high: float) -> bool:
    """Whether both are shown as the same number."""
    return significant(low, 4) == significant(high, 4)


def _allowed(
    ranked: Sequence[Contender], measure: str, gap: float, differing: Sequence[Difference]
) -> tuple[bool, str]:
    """Whether the interval or the spread of seeds allows saying so, and the sentence on it."""
    best, second = ranked[:2]
    if [one.name for one in differing if one.stage] == ["SEED"]:
        return False, "Only the seed differs, so this is what chance does."
    if (spread := _spread(ranked, measure, differing)) is not None:
        sure = gap > spread
        word = "more" if sure else "no more"
        return sure, f"That is {word} than what another seed changes here ({significant(spread, 2)})."
    limit = chance(best, second, measure)
    if limit is None and (words := _far_beyond(best, second, measure, gap)):
        return True, words
    if limit is None:
        title = "held-out CE" if measure == "heldout_ce" else "held-out loss"  # of others it may be known
        unknown = f"For {title} it is not known yet whether chance alone could do that"
        return False, f"{unknown}: {_evaluations((best, second))}."
    if gap > limit:
        return True, f"That is beyond the chance of the held-out prompts (95%: ±{significant(limit, 2)})."
    return False, f"The held-out prompts alone could do that (95%: ±{significant(limit, 2)}), so it may be chance."


def _far_beyond(best: Contender, second: Contender, measure: str, gap: float) -> str:
    """That a difference is many times the chance that the evaluation of one of the two tells; else empty.

    Both were measured on the same prompts, so the interval of the other one is not that much wider.
    """
    halves = [(half, one.letter) for one in (best, second) if (half := _half(one, measure)) is not None]
    half, letter = max(halves, default=(math.inf, ""))
    if not comparable(best, second, measure) or not 0 < _FAR * half < gap:
        return ""
    times = f"That is {gap / half:.0f} times the chance of the held-out prompts"
    return f"{times}, as the evaluation of {letter} tells it (95%: ±{significant(half, 2)})."


def _evaluations(some: Sequence[Contender]) -> str:
    """Which evaluations still lack the intervals: those that run, and those to run, with what they lack."""
    lacking = sorted((one for one in some if half_widths(one.subject) is None), key=lambda one: one.place)
    runs = [one.letter for one in lacking if one.subject.evaluates]
    parts = []
    if runs:
        still = "evaluation of {} still runs" if len(runs) == 1 else "evaluations of {} still run"
        parts.append(f"the {still.format(listed(runs))}")
    to_run: dict[tuple[str, ...], list[str]] = {}
    for one in lacking:
        if not one.subject.evaluates:
            to_run.setdefault((*one.subject.lacking, EVAL), []).append(one.letter)
    for stages, letters in to_run.items():
        parts.append(f"run {', then '.join(stages)} in {listed(letters)}")
    return "; ".join(parts)


def comparable(one: Contender, two: Contender, measure: str) -> bool:
    """Whether the two have the same measure: a loss with other weights is another one."""
    settings = [settings_of(each.subject) for each in (one, two)]
    return all(settings[0].get(name) == settings[1].get(name) for name in _MADE_WITH.get(measure, ()))


def chance(one: Contender, two: Contender, measure: str) -> float | None:
    """What a difference of the two must exceed to be beyond the chance of the held-out prompts, or of an evaluation.

    None where that is not known: for losses that were not evaluated or are weighted differently, and for figures
    without an interval.
    """
    if measure == "heldout_agreement":
        return _chance_of_shares([(each.figures[measure].value, each.tokens) for each in (one, two)])
    kl, ce = _parts(one, measure)
    if kl is None or ce is None:
        return _together([each.figures[measure].half for each in (one, two)])
    if not comparable(one, two, measure):
        return None
    if (paired := half_width(one.subject.answers, two.subject.answers, kl, ce)) is not None:
        return paired
    return _together([_half(each, measure) for each in (one, two)])


def _parts(one: Contender, measure: str) -> tuple[float | None, float | None]:
    """How much of KL and of CE a measure has; None for another one."""
    settings = settings_of(one.subject)
    weights = finite(settings.get("KD_WEIGHT")), finite(settings.get("KD_CE_WEIGHT"))
    parts = {LAST: weights, LOWEST: weights, "heldout_kl": (1.0, 0.0), "heldout_ce": (0.0, 1.0)}
    return parts.get(measure, (None, None))


def _half(one: Contender, measure: str) -> float | None:
    """Half the interval over the held-out prompts; None for one that was not evaluated.

    Of the weighted sum the sum of both halves, which is at least the half of the sum. The evaluation's KL is at
    temperature 1, that of the training at KD_TAU; both vary alike from prompt to prompt.
    """
    (kl, ce), halves = _parts(one, measure), half_widths(one.subject)
    return None if kl is None or ce is None or halves is None else kl * halves[0] + ce * halves[1]


def _together(halves: Sequence[float | None]) -> float | None:
    """Half the interval of a difference; None where that of one side is not known."""
    known = [half for half in halves if half is not None]
    return math.hypot(*known) if len(known) == len(halves) else None


def _chance_of_shares(shares: Sequence[tuple[float, float | None]]) -> float | None:
    """The same for shares of a number of tokens, as if each token were drawn by itself."""
    variances = [share * (1 - share) / tokens for share, tokens in shares if tokens and 0 <= share <= 1]
    return Z95 * math.sqrt(sum(variances)) if len(variances) == len(shares) else None


def _seen(ranked: Sequence[Contender]) -> str:
    """That some have seen fewer tokens than others."""
    seen = sorted((one.letter, one.figures["seen_tokens"].value) for one in ranked if "seen_tokens" in one.figures)
    most = max((value for _, value in seen), default=0.0)
    if all(value >= most * (1 - SAME_TOKENS) for _, value in seen):
        return ""
    return f"Seen: {', '.join(f'{letter} {count(value)}' for letter, value in seen)} tokens."


def _spread(ranked: Sequence[Contender], measure: str, differing: Sequence[Difference]) -> float | None:
    """The largest difference between trainings that differ in nothing but the seed; None without two of them."""
    seeds = next((one.values for one in differing if one.name == "SEED"), None)
    if seeds is None:
        return None
    groups: dict[tuple[str, ...], dict[str, float]] = {}
    for one in ranked:
        key = tuple(other.values[one.place] for other in differing if other.stage and other.name != "SEED")
        groups.setdefault(key, {})[seeds[one.place]] = one.figures[measure].value
    spreads = [max(values.values()) - min(values.values()) for values in groups.values() if len(values) > 1]
    return max(spreads) if spreads and len(groups) > 1 and not _seen(ranked) else None


def settings_words(differing: Sequence[Difference], named: Callable[[str], str] = str) -> str:
    """The settings that differ and decide a result, with their values; `named` tells what each name is shown as."""
    deciding = [one for one in differing if one.stage]
    if not deciding:
        return "No setting that decides a result differs."
    told = [f"{named(one.name)}{_values_words(one)}" for one in deciding[:_NAMED_SETTINGS]]
    more = len(deciding) - len(told)
    title = "Setting that differs" if len(deciding) == 1 else "Settings that differ"
    return f"{title}: {', '.join(told)}{f' and {more} more' if more else ''}."


def _values_words(one: Difference) -> str:
    """` (A 6e-4, then 3e-4; B 0.001)`; none for more than two: the table has them."""
    if len(one.values) > 2:
        return ""
    values = (crop(shown(value).replace(IN_THE_MIDDLE, ", then "), _VALUE_CELLS) for value in one.values)
    return f" ({'; '.join(f'{letter} {value}' for letter, value in zip(LETTERS, values, strict=False))})"
