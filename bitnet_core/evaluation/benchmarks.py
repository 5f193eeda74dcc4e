"""Student and teacher on the same items of public benchmarks: their scores, and Q_s/Q_t with its interval.

What was measured elsewhere (EVAL_SCORES) stands in for a benchmark that is not measured here.
Shapes: N items, R resamples.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import SuiteOptions
from bitnet_core.suites.benchmarks import find
from bitnet_core.suites.intervals import Estimate, draws, estimate
from bitnet_core.suites.likelihood import BenchmarkScore, TextScorer, score_benchmark
from bitnet_core.suites.outside import OutsideScore, OutsideScores, load_outside
from bitnet_core.suites.requests_file import Item, load

Side = Literal["student", "teacher"]
SIDES: tuple[Side, Side] = ("student", "teacher")
Open = Callable[[], AbstractContextManager[TextScorer]]

COLUMNS = ["benchmark", "of", "figure", "value", "95 % from", "95 % to", "items", "unanswered", "origin"]


@dataclass
class Comparison:
    """One benchmark. A side without a score has none here and none from outside."""

    name: str
    measured: dict[Side, BenchmarkScore] = field(default_factory=dict)
    given: dict[Side, OutsideScore] = field(default_factory=dict)

    def quality(self, side: Side) -> Estimate | None:
        """From 0 to 1: the measured one, else the given one."""
        if side in self.measured:
            return self.measured[side].quality
        if side in self.given:
            one = self.given[side]
            return Estimate(one.score, *one.interval)
        return None

    def ratio(self, seed: int) -> Estimate | None:
        """Q_s/Q_t on the items that both answered; None unless both were measured and the teacher's is above 0.

        Items are resampled once for both, because an item that is hard for one is hard for the other.
        """
        if len(self.measured) < len(SIDES):
            return None
        both = [self.measured[side] for side in SIDES]
        pairs = zip(*(one.values for one in both), both[0].weights, strict=True)
        rows = [(s, t, weight) for s, t, weight in pairs if s is not None and t is not None]
        if not rows:
            return None
        student_N, teacher_N, weights_N = np.array(rows, np.float64).T
        draws_RN = draws(len(rows), seed)

        def ratio(counts_N: Any) -> Any:
            weighted_N = counts_N * weights_N
            total = weighted_N.sum(-1)
            q_s, q_t = weighted_N @ student_N / total, weighted_N @ teacher_N / total
            with np.errstate(divide="ignore", invalid="ignore"):
                return 2.0 ** (q_t - q_s) if both[0].is_text else q_s / q_t

        value = float(ratio(np.ones(len(rows))))
        return estimate(value, ratio(draws_RN)) if np.isfinite(value) else None


def measure(
    names: Sequence[str], asked: SuiteOptions, opened: Mapping[Side, Open], reporter: Reporter
) -> dict[str, Any] | None:
    """The report's `benchmarks`, and its table; None if the settings ask for none."""
    outside = load_outside(asked.scores_file) if asked.scores_file else OutsideScores()
    found = compare(names, asked.limit or None, opened, outside, reporter, asked.seed)
    if not found:
        return None
    reporter.table("benchmarks", COLUMNS, table(found, asked.seed))
    return record(found, asked.limit or None, asked.seed)


def compare(
    names: Sequence[str],
    limit: int | None,
    opened: Mapping[Side, Open],
    outside: OutsideScores,
    reporter: Reporter,
    seed: int,
) -> list[Comparison]:
    """Score both sides on each named benchmark, then add those that only `outside` has.

    A side that can't be opened, or answers no item of a benchmark, is unanswered there, and an alert says why.
    BitnetError for a benchmark that was not fetched, before any is scored.
    """
    items = {name: load(find(name), limit) for name in names}
    found = {name: Comparison(name) for name in (*names, *outside.student, *outside.teacher)}
    given: dict[Side, Mapping[str, OutsideScore]] = {"student": outside.student, "teacher": outside.teacher}
    for side in SIDES:
        for name, one in given[side].items():
            found[name].given[side] = one
    for side in SIDES if items else ():
        try:
            with opened[side]() as scorer:
                for name in names:
                    score = _score(side, name, items[name], scorer, reporter, seed)
                    if score is not None:
                        found[name].measured[side] = score
        except Stopped:
            raise
        except BitnetError as error:
            reporter.alert(
                "warning", "benchmarks_unanswered", f"No benchmark of the {side}: {error}", "See the report."
            )
    return list(found.values())


def _score(
    side: Side, name: str, items: Sequence[Item], scorer: TextScorer, reporter: Reporter, seed: int
) -> BenchmarkScore | None:
    def on_done(done: int) -> None:
        reporter.check_stop()
        reporter.progress(done, len(items), "items", f"{name}, {side}")

    reporter.progress(0, len(items), "items", f"{name}, {side}")
    try:
        score = score_benchmark(find(name), items, scorer, seed, on_done)
    except Stopped:
        raise
    except BitnetError as error:
        reporter.alert("warning", "benchmarks_unanswered", f"{name}, {side}: {error}", "See the report.")
        return None
    if score.unanswered:
        reporter.alert(
            "warning",
            "items_unanswered",
            f"{name}, {side}: {score.unanswered} of {len(items)} items got no score and are left out.",
            "They are too long for the model, or it refused them.",
        )
    return score


def table(comparisons: Sequence[Comparison], seed: int) -> list[list[Any]]:
    """Rows under COLUMNS."""
    rows: list[list[Any]] = []
    for one in comparisons:
        for side in SIDES:
            if side in one.measured:
                score = one.measured[side]
                for name, figure in score.figures.items():
                    rows.append([one.name, side, name, *_rounded(figure), score.items, score.unanswered, "measured"])
            elif side in one.given:
                quality = one.quality(side)
                rows.append([one.name, side, "score", *_rounded(quality), one.given[side].n, 0, "given"])
        ratio = one.ratio(seed)
        if ratio is not None:
            rows.append([one.name, "student / teacher", "quality", *_rounded(ratio), None, None, "measured"])
    return rows


def _rounded(found: Estimate | None) -> list[float | None]:
    return [None, None, None] if found is None else [round(one, 4) for one in (found.value, found.low, found.high)]


def record(comparisons: Sequence[Comparison], limit: int | None, seed: int) -> dict[str, Any]:
    """The report's `benchmarks`: every figure of both sides, where it comes from, and Q_s/Q_t."""
    return {
        "limit": limit,
        "interval": "95 % bootstrap over items",
        "benchmarks": {one.name: _record(one, seed) for one in comparisons},
    }


def _record(one: Comparison, seed: int) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side in SIDES:
        quality = one.quality(side)
        sides[side] = None if quality is None else {"quality": asdict(quality)} | _origin(one, side)
    ratio = one.ratio(seed)
    return {**sides, "ratio": None if ratio is None else asdict(ratio)}


def _origin(one: Comparison, side: Side) -> dict[str, Any]:
    if side not in one.measured:
        return {"origin": "given", "items": one.given[side].n}
    score = one.measured[side]
    figures = {name: asdict(figure) for name, figure in score.figures.items()}
    counts = {"items": score.items, "unanswered": score.unanswered}
    return {"origin": "measured", "main": score.main, "figures": figures, **counts}
