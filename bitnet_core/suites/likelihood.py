"""Score items by the likelihood that a model gives to their continuations.

A choice benchmark's item is right when its gold continuation has the highest log-likelihood: as it is (`accuracy`),
or divided by the continuation's characters without its leading space (`accuracy_normalised`), because a sum over more
tokens is lower. A text benchmark's figure is bits per byte: -Σ log-likelihood / (ln 2 · Σ bytes) over all items. Both
are defined as in lm-evaluation-harness. Knows no model: only ids go to a `TokenScorer`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from bitnet_core.errors import BitnetError
from bitnet_core.suites.intervals import Estimate, draws, estimate, share
from bitnet_core.suites.requests_file import Item, Task
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.student import StudentTokenizer

IdPair = tuple[list[int], list[int]]
"""A context and its continuation, both with at least one id."""
OnDone = Callable[[int], None]
"""Called with the number of pairs done so far; it may raise to stop."""


class TokenScorer(Protocol):
    """A model that scores given tokens. `limit` is the most ids that it reads: all but a pair's last one."""

    @property
    def limit(self) -> int: ...

    def score_ids(self, pairs: Sequence[IdPair], on_done: OnDone) -> list[tuple[float, bool] | None]:
        """For each pair: Σ ln p of the continuation's ids, and whether each was the likeliest; None if it failed."""
        ...


class Scored(NamedTuple):
    """The log-likelihood of a text in nats, and whether greedy decoding would have written it."""

    logprob: float
    is_greedy: bool


class TextScorer:
    """Scores texts with a model and its tokenizer."""

    def __init__(self, tokenizer: StudentTokenizer, scorer: TokenScorer) -> None:
        self.tokenizer = tokenizer
        self._scorer = scorer

    def score(self, pairs: Sequence[tuple[str, str]], on_done: OnDone = lambda _done: None) -> list[Scored | None]:
        """The continuation of each (context, continuation), which follows the context without a space of ours.

        A context that is too long loses its beginning; a text without a context is read as in `score_whole`. None
        where the model or its tokenizer can't take the text.
        """
        cut = [self._cut(*pair) if pair[0] else self._windows(pair[1]) for pair in pairs]
        flat = [one for windows in cut for one in windows or ()]
        if not flat:
            return [None] * len(pairs)
        answers = iter(self._scorer.score_ids(flat, lambda done: on_done(len(pairs) * done // len(flat))))
        return [_sum(list(itertools.islice(answers, len(windows)))) if windows else None for windows in cut]

    def score_whole(self, text: str) -> Scored | None:
        """A whole text, in windows of at most `limit` tokens that don't overlap.

        Each token is scored after those before it, as many as the model reads.
        """
        windows = self._windows(text)
        return None if windows is None else _sum(self._scorer.score_ids(windows, lambda _done: None))

    def _cut(self, context: str, continuation: str) -> list[IdPair] | None:
        """The ids of a pair: the continuation's are those that follow the context's in the whole text.

        Spaces that end the context belong to the continuation, because most tokens begin with their space.
        """
        bare = context.rstrip()
        try:
            context_ids = [*self.tokenizer.opening_ids, *self.tokenizer.encode(bare)]
            whole_ids = [*self.tokenizer.opening_ids, *self.tokenizer.encode(context + continuation)]
        except Refused:
            return None
        ids = whole_ids[len(context_ids) :]
        context_ids = context_ids or [self.tokenizer.eos_id]
        room = self._scorer.limit + 1 - len(ids)
        return [(context_ids[-room:], ids)] if ids and room > 0 else None

    def _windows(self, text: str) -> list[IdPair] | None:
        try:
            ids = self.tokenizer.encode(text)
        except Refused:
            return None
        limit = self._scorer.limit
        opening = (self.tokenizer.opening_ids or [self.tokenizer.eos_id])[-1:]
        ends = [min(start + limit, len(ids)) for start in range(0, len(ids), limit)]
        return [
            (ids[max(0, end - limit - 1) : start] or opening, ids[start:end])
            for start, end in zip(range(0, len(ids), limit), ends, strict=True)
        ]


def _sum(scores: Sequence[tuple[float, bool] | None]) -> Scored | None:
    """The score of a text from those of its windows; None if one has none, BitnetError if one is not finite."""
    found = [score for score in scores if score is not None]
    if len(found) < len(scores):
        return None
    if not all(math.isfinite(logprob) for logprob, _ in found):  # a choice of NaN would count as the likeliest
        raise BitnetError("The model gives probabilities that are not finite; choose another model or checkpoint.")
    return Scored(math.fsum(logprob for logprob, _ in found), all(greedy for _, greedy in found))


@dataclass(frozen=True)
class BenchmarkScore:
    """A model's figures on one benchmark, with 95 % intervals over items.

    `main` names the figure to compare. `values` has the main figure of each item in order, None if it is unanswered:
    1 or 0 where a choice is right or wrong, bits per byte for a text. The figure is their mean with `weights`: 1 for
    a choice, its bytes for a text.
    """

    name: str
    main: str
    figures: dict[str, Estimate]
    values: list[float | None]
    weights: list[int]

    @property
    def items(self) -> int:
        """How many items were answered."""
        return sum(value is not None for value in self.values)

    @property
    def unanswered(self) -> int:
        return len(self.values) - self.items

    @property
    def quality(self) -> Estimate:
        """The main figure as a quality from 0 to 1: an accuracy as it is, bits per byte as 2^(-bits/byte)."""
        found = self.figures[self.main]
        if not self.is_text:
            return found
        return Estimate(2**-found.value, 2**-found.high, 2**-found.low)

    @property
    def is_text(self) -> bool:
        return self.main == "bits_per_byte"


def score_task(task: Task, scorer: TextScorer, seed: int, on_done: OnDone = lambda _done: None) -> BenchmarkScore:
    """The figures of a model on the items of a task; `on_done` counts items.

    An item with a choice that got no score is unanswered and left out. BitnetError if that is so for all of them.
    """
    items = task.items
    pairs = [pair for item in items for pair in item.choices]
    scored = scorer.score(pairs, lambda done: on_done(len(items) * done // len(pairs)))
    answers = iter(scored)
    scores = [_complete(list(itertools.islice(answers, len(item.choices)))) for item in items]
    if not any(scores):
        raise BitnetError(
            f"The model scored none of the {len(items)} items of {task.name}; choose one with a longer context."
        )
    figures = _choices if task.kind == "choice" else _texts
    return figures(task.name, items, scores, seed)


def _complete(scored: Sequence[Scored | None]) -> list[Scored] | None:
    found = [score for score in scored if score is not None]
    return found if len(found) == len(scored) else None


def _choices(name: str, items: Sequence[Item], scores: Sequence[list[Scored] | None], seed: int) -> BenchmarkScore:
    plain: list[bool] = []
    normalised: list[bool | None] = []
    for item, scored in zip(items, scores, strict=True):
        if scored is None:
            normalised.append(None)
            continue
        lengths = [len(continuation.removeprefix(" ")) for _, continuation in item.choices]
        plain.append(int(np.argmax([score.logprob for score in scored])) == item.gold)
        by_length = [score.logprob / length for score, length in zip(scored, lengths, strict=True)]
        normalised.append(int(np.argmax(by_length)) == item.gold)
    figures = {
        "accuracy_normalised": share([one for one in normalised if one is not None], seed),
        "accuracy": share(plain, seed),
    }
    values = [None if one is None else float(one) for one in normalised]
    return BenchmarkScore(name, "accuracy_normalised", figures, values, [1] * len(values))


def _texts(name: str, items: Sequence[Item], scores: Sequence[list[Scored] | None], seed: int) -> BenchmarkScore:
    bits = [None if scored is None else -scored[0].logprob / math.log(2) for scored in scores]
    sizes = [len(item.choices[0][1].encode()) for item in items]
    values = [None if one is None else one / size for one, size in zip(bits, sizes, strict=True)]
    bits_N = np.array([one for one in bits if one is not None])
    sizes_N = np.array([size for one, size in zip(bits, sizes, strict=True) if one is not None], np.float64)
    draws_RN = draws(len(bits_N), seed)
    spread_R = (draws_RN @ bits_N) / (draws_RN @ sizes_N)
    figures = {"bits_per_byte": estimate(float(bits_N.sum() / sizes_N.sum()), spread_R)}
    return BenchmarkScore(name, "bits_per_byte", figures, values, sizes)
