"""Student and teacher on the same items of public benchmarks: their scores, and Q_s/Q_t with its interval.

What was measured elsewhere (EVAL_SCORES) stands in for a benchmark that is not measured here.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation.quality import Part
from bitnet_core.runs.reporter import Reporter
from bitnet_core.suites.intervals import Estimate
from bitnet_core.suites.likelihood import BenchmarkScore, TextScorer, score_task
from bitnet_core.suites.outside import OutsideScore, OutsideScores
from bitnet_core.suites.requests_file import Task

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

    def part(self) -> Part | None:
        """Both models on the items that both answered; None unless both were measured and have one in common."""
        if len(self.measured) < len(SIDES):
            return None
        student, teacher = (self.measured[side] for side in SIDES)
        triples = zip(student.values, teacher.values, student.weights, strict=True)
        rows = [(s, t, weight) for s, t, weight in triples if s is not None and t is not None]
        if not rows:
            return None
        student_N, teacher_N, weights_N = np.array(rows, np.float64).T
        return Part(self.name, student_N, teacher_N, weights_N, student.is_text)

    def ratio(self, seed: int) -> Estimate | None:
        """Q_s/Q_t on the items that both answered; None if there are none, or the teacher's is 0."""
        part = self.part()
        return part.ratio(seed) if part else None


def score_both(
    tasks: Sequence[Task], opened: Mapping[Side, Open], reporter: Reporter, seed: int
) -> tuple[list[Comparison], dict[Side, str]]:
    """Each task with the scores of both sides; and why a side was scored on none, where it can't be opened.

    Where a side answers no item of a task, it has no score there, and an alert says why.
    """
    found = {task.name: Comparison(task.name) for task in tasks}
    closed: dict[Side, str] = {}
    for side in SIDES if tasks else ():
        try:
            with opened[side]() as scorer:
                for task in tasks:
                    score = _score(side, task, scorer, reporter, seed)
                    if score is not None:
                        found[task.name].measured[side] = score
        except Stopped:
            raise
        except BitnetError as error:
            closed[side] = str(error)
    return list(found.values()), closed


def with_outside(comparisons: Sequence[Comparison], outside: OutsideScores) -> list[Comparison]:
    """The comparisons with the scores that were measured elsewhere, and those that only `outside` has."""
    found = {one.name: one for one in comparisons}
    given: dict[Side, Mapping[str, OutsideScore]] = {"student": outside.student, "teacher": outside.teacher}
    for side in SIDES:
        for name, one in given[side].items():
            found.setdefault(name, Comparison(name)).given[side] = one
    return list(found.values())


def _score(side: Side, task: Task, scorer: TextScorer, reporter: Reporter, seed: int) -> BenchmarkScore | None:
    label, count = f"{task.name}, {side}", len(task.items)

    def on_done(done: int) -> None:
        reporter.check_stop()
        reporter.progress(done, count, "items", label)

    reporter.progress(0, count, "items", label)
    try:
        score = score_task(task, scorer, seed, on_done)
    except Stopped:
        raise
    except BitnetError as error:
        reporter.alert("warning", "benchmarks_unanswered", f"{label}: {error}", "See the report.")
        return None
    if score.unanswered:
        reporter.alert(
            "warning",
            "items_unanswered",
            f"{label}: {score.unanswered} of {count} items got no score and are left out.",
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
