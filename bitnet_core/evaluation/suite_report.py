"""The scores of a teacher or a student on suites: the report's fields, and the tables. Pure."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import numpy as np

from bitnet_core.evaluation.quality import Part
from bitnet_core.suites.intervals import Estimate, macro_share
from bitnet_core.suites.run import Graded, Score, scores, total, unanswered

REPORT_KEY = "checks"
ALL_SUITES = "all suites, weighted equally"
COLUMNS = ["suite", "items", "answered", "score", "95 % from", "95 % to"]
COMPARED = [*COLUMNS, "both answered", "student on these", "teacher on these"]


def record(
    graded: Sequence[Graded], seed: int, max_tokens: int, runtime: str, *, keep_texts: bool = True
) -> dict[str, Any]:
    """The report's `checks`: scores with intervals, unanswered items by reason, every verdict, and what answered."""
    return {
        "origin": "measured",
        "runtime": runtime,
        "interval": "95 % bootstrap over items",
        "max_tokens": max_tokens,
        "total": _score_record(total(graded, seed)),
        "suites": {name: _score_record(score) for name, score in scores(graded, seed).items()},
        "unanswered": dict(unanswered(graded)),
        "answers": [_answer_record(one, keep_texts) for one in graded],
    }


def _score_record(score: Score) -> dict[str, Any]:
    estimate = asdict(score.estimate) if score.estimate else None
    return {"items": score.items, "answered": score.answered, "passed": score.passed, "score": estimate}


def _answer_record(one: Graded, keep_text: bool) -> dict[str, Any]:
    found = {
        "suite": one.suite,
        "id": one.item.id,
        "hash": one.item.hash,
        "passed": one.passed,
        "reason": one.reason,
    }
    return found | ({"text": one.text} if keep_text else {})


def table(graded: Sequence[Graded], seed: int) -> list[list[Any]]:
    """Rows under COLUMNS: each suite, then all of them."""
    by_suite = scores(graded, seed)
    rows = [_row(name, score) for name, score in by_suite.items()]
    return rows if len(rows) == 1 else [*rows, _row(ALL_SUITES, total(graded, seed))]


def _row(name: str, score: Score) -> list[Any]:
    found = score.estimate
    interval = [round(value, 3) for value in (found.value, found.low, found.high)] if found else [None] * 3
    return [name, score.items, score.answered, *interval]


# -- teacher and student on the same items -------------------------------------------------------------------
class _Verdict(msgspec.Struct):
    """One of the baseline's answers, as far as it is compared."""

    hash: str
    passed: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Common:
    """Both scores on the items that both answered; each suite has the same weight."""

    items: int
    student: Estimate
    teacher: Estimate


def teacher_verdicts(baseline: Mapping[str, Any]) -> dict[str, bool]:
    """What the baseline says of the teacher's answers, by the item's hash; empty if it has no suites."""
    return {one.hash: one.passed for one in _verdicts(baseline) if one.passed is not None}


def teacher_unanswered(graded: Sequence[Graded], baseline: Mapping[str, Any]) -> Counter[str]:
    """How many of these items the teacher was asked and did not answer, by the baseline's reason."""
    asked = {one.item.hash for one in graded}
    return Counter(one.reason for one in _verdicts(baseline) if one.passed is None and one.hash in asked)


def _verdicts(baseline: Mapping[str, Any]) -> Iterator[_Verdict]:
    checks = baseline.get(REPORT_KEY)
    answers = checks.get("answers") if isinstance(checks, dict) else None
    for one in answers if isinstance(answers, list) else ():
        with contextlib.suppress(msgspec.ValidationError):
            yield msgspec.convert(one, _Verdict)


def parts(graded: Sequence[Graded], verdicts: Mapping[str, bool]) -> list[Part]:
    """Each suite with the items that both answered, without suites that have none."""
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for one in graded:
        if one.passed is not None and one.item.hash in verdicts:
            pairs.setdefault(one.suite, []).append((one.passed, verdicts[one.item.hash]))
    found = []
    for name, both in pairs.items():
        student_N, teacher_N = np.array(both, np.float64).T
        found.append(Part(name, student_N, teacher_N, np.ones(len(both))))
    return found


def common(graded: Sequence[Graded], verdicts: Mapping[str, bool], seed: int) -> Common | None:
    """Student and teacher on the same items; None if there are none that both answered."""
    found = parts(graded, verdicts)
    if not found:
        return None
    student = [[bool(one) for one in part.student_N] for part in found]
    teacher = [[bool(one) for one in part.teacher_N] for part in found]
    return Common(sum(map(len, student)), macro_share(student, seed), macro_share(teacher, seed))


def compared_table(graded: Sequence[Graded], verdicts: Mapping[str, bool], seed: int) -> list[list[Any]]:
    """Rows under COMPARED: those of `table`, with both scores on the items that both answered."""
    rows = []
    for row in table(graded, seed):
        ones = [one for one in graded if row[0] in (one.suite, ALL_SUITES)]
        both = common(ones, verdicts, seed)
        rows.append([*row, *_both(both)])
    return rows


def _both(found: Common | None) -> list[Any]:
    return [found.items, round(found.student.value, 3), round(found.teacher.value, 3)] if found else [0, None, None]
