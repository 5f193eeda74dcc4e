"""Ask a student items, score it and its teacher on given text, and make one quality of each: tables and report."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bitnet_core.evaluation import benchmarks, quality, suite_report, suite_scores
from bitnet_core.evaluation.benchmarks import SIDES, Open, Side
from bitnet_core.evaluation.llamacpp import CONTEXT_STEP
from bitnet_core.evaluation.quality import Quality
from bitnet_core.evaluation.student_runtime import StudentRuntime
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import SuiteOptions
from bitnet_core.suites import fixed_text
from bitnet_core.suites.outside import OutsideScores
from bitnet_core.suites.requests_file import Task
from bitnet_core.suites.run import Suites


@dataclass(frozen=True)
class Scored:
    """The report's `checks`, `benchmarks` and `quality`; `found` is None if nothing counts for both models.

    `why` says what is missing in the quality, in sentences.
    """

    checks: dict[str, Any] | None
    benchmarks: dict[str, Any] | None
    found: Quality | None
    runtime: str
    why: list[str]

    def record(self) -> dict[str, Any]:
        """The report's `quality`."""
        found = quality.record(self.found) if self.found else {}
        return {**found, "student_runtime": self.runtime, "missing": self.why}


def tasks_to_score(to_score: Sequence[Task], asked: SuiteOptions) -> list[Task]:
    """The fixed text, if it has a weight, before the benchmarks."""
    return [*([fixed_text.task(asked.limit)] if asked.text_weight else []), *to_score]


def longest(tasks: Sequence[Task]) -> int:
    """Tokens that are enough for every text of some tasks, and one before it; a whole number of llama.cpp's steps."""
    return (max((task.longest for task in tasks), default=0) // CONTEXT_STEP + 1) * CONTEXT_STEP


def score_student(
    here: StudentRuntime,
    suites: Suites,
    tasks: Sequence[Task],
    asked: SuiteOptions,
    baseline: Mapping[str, Any],
    teacher: Open,
    outside: OutsideScores,
    reporter: Reporter,
    *,
    keep_texts: bool,
) -> Scored:
    """The student's answers and both models' scores; the teacher's answers are in the baseline. Emits the tables.

    `tasks` are those of `tasks_to_score`, `teacher` opens what scores given text, `outside` was measured elsewhere.
    """
    graded = suite_scores.ask_student(suites, here.answers, asked, baseline, reporter)
    checks = suite_scores.student_record(graded, asked, baseline, here.name, keep_texts=keep_texts)
    opened: dict[Side, Open] = {"student": lambda: contextlib.nullcontext(here.scorer), "teacher": teacher}
    compared, closed = benchmarks.score_both(tasks, opened, reporter, asked.seed)
    why = [f"The {side} has no score on given text: {reason}" for side, reason in closed.items()]
    for sentence in why:
        advice = "The quality counts items alone, for both models."
        reporter.alert("warning", "text_not_measurable", sentence, advice)

    text = next((one for one in compared if one.name == fixed_text.NAME), None)
    shown = benchmarks.with_outside([one for one in compared if one is not text], outside)
    if shown:
        reporter.table("benchmarks", benchmarks.COLUMNS, benchmarks.table(shown, asked.seed))
    if text is not None and not closed:
        why += [f"The {side} scored no passage of the fixed text." for side in SIDES if side not in text.measured]
    parts = [*suite_report.parts(graded, suite_report.teacher_verdicts(baseline))]
    if suites and not parts:
        why.append("No item of the suites was answered by both: run `bitnet teacher` with the same EVAL_SUITE.")
    parts += [part for one in compared if one is not text and (part := one.part())]
    found = quality.measure(parts, text.part() if text else None, asked.text_weight, asked.seed)
    if found:
        reporter.table("quality", quality.COLUMNS, quality.table(found))
    return Scored(
        checks=checks,
        benchmarks=benchmarks.record(shown, asked.limit or None, asked.seed) if shown else None,
        found=found,
        runtime=here.name,
        why=why,
    )
