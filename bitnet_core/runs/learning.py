"""Whether a student has learnt more than a trivial one, as findings beside those of how its training goes."""

from collections.abc import Iterator
from dataclasses import replace

from bitnet_core.runs.ahead import reachable
from bitnet_core.runs.finding import Finding
from bitnet_core.runs.health import trained
from bitnet_core.runs.trend import RISES, RUINED, comparable, is_late, is_worse, rises, stays_raised, unsettled
from bitnet_core.runs.vitals import Evaluation, Plan, Vitals
from bitnet_core.text import capital, share, significant

COMPLETIONS_CUT = "completions_cut"
"""The code of the alert that sequences end before many answers do."""
_RATE = "LR"
FIRST_PART = 0.25
"""Before this share of its tokens, nothing is said of a student: all agree on little at first."""
_MORE = "more budget or answers, or another STUDENT_INIT"
"""Brief, as the whole finding has to fit in the two lines above an active run's charts."""


def finished(vitals: Vitals, begins: str = "Done: held-out") -> tuple[Finding, ...]:
    """As `trained`; also that the student has learnt nothing, or no ends of answers."""
    little, cut = _no_better_than_chance(vitals), vitals.alerts.get(COMPLETIONS_CUT)
    found = list(trained(vitals, begins))
    if little:
        found = [replace(one, level="warn") if one.level == "good" else one for one in found]
        found.append(Finding("warn", little, f"{capital(_MORE)} may help."))
    if cut:
        found.append(Finding("warn", cut[0].message, cut[0].advice, COMPLETIONS_CUT))
    return tuple(found)


def left_off(vitals: Vitals) -> tuple[Finding, ...]:
    """How a training stands that ended before it was done. The flip may have raised its loss for a while."""
    if len(vitals.evaluations) < 2:
        return ()
    if vitals.before_flip is not None and unsettled(vitals):
        return (_since_flip(vitals, vitals.before_flip),)
    first, last = vitals.first, vitals.evaluations[-1]
    if first is None or not is_worse(last.loss, first.loss, ended=True):
        found = trained(vitals, "So far the held-out loss")
        return tuple(replace(one, level="calm") if one.level == "good" else one for one in found)
    ruined = last.loss > first.loss * RUINED
    found = trained(vitals, "Ruined: so far the held-out loss" if ruined else "So far the held-out loss")
    return tuple(replace(one, level="bad" if ruined else one.level, advice=_begin_again(vitals)) for one in found)


def _since_flip(vitals: Vitals, before: Evaluation) -> Finding:
    """How one stands that ended above its held-out loss before the flip."""
    found, begun = comparable(vitals), vitals.flip_at or 0.0
    losses, first = [one.loss for one in found], vitals.first.loss if vitals.first else None
    words = f"held-out loss is {significant(losses[-1])} after the flip, {significant(before.loss)} before it."
    late = vitals.budget is not None and is_late(found[-1].seen - begun, vitals.budget - begun)
    if not stays_raised(losses, first, late=late):
        return Finding("calm", f"So far the {words}")
    ruined = first is not None and losses[-1] > first * RUINED
    times = rises(losses)
    rose = f" It rose for {times} evaluations." if times >= RISES else ""
    return Finding(
        "bad" if ruined or times >= 2 * RISES else "warn",
        f"{'Ruined' if ruined else 'Not recovered from the flip'}: so far the {words}{rose}",
        "Go on from a checkpoint before the flip (`bitnet train --from STEP`), with a lower LR or a flip layer by "
        "layer (FLIP_POLICY=ramp).",
    )


def _begin_again(vitals: Vitals) -> str:
    """What to do instead of going on with a student that is worse than at the start.

    Where the learning rate has just been changed, the next training has another one already.
    """
    rate = "" if vitals.changed and _RATE in vitals.changed.words.split() else f" with a lower {_RATE}"
    best, first = vitals.best, vitals.first
    if best and first and best.step and best.loss < first.loss:
        return f"Go on from an earlier checkpoint{rate} (`bitnet train --from STEP`)."
    return f"Begin again from step 0{rate} ({'`bitnet train --from 0`' if vitals.starts_saved else 'RESUME_STEP=0'})."


def learnt_little(vitals: Vitals, plan: Plan) -> Iterator[Finding]:
    """The same of an active training that is past its first part. The flip may have lowered the agreement."""
    end = reachable(vitals, plan.decided(vitals.budget))
    if end and vitals.evaluations and vitals.evaluations[-1].seen >= FIRST_PART * end and not unsettled(vitals):
        little = _no_better_than_chance(vitals)
        yield from [Finding("warn", little, f"If it stays so: {_MORE}.")] if little else []


def _no_better_than_chance(vitals: Vitals) -> str:
    """A sentence, if the last evaluation agrees with the teacher no more often than one token would, said always."""
    found = vitals.evaluations[-1].agreement if vitals.evaluations else None
    if found is None or vitals.commonest is None or found > vitals.commonest:
        return ""
    return f"Agreement is only {share(found)}: always saying the most common token reaches {share(vitals.commonest)}."
