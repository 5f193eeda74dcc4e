"""What a teacher or a student scores on suites: the table, what was not answered, and the report's `checks`."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bitnet_core.evaluation import suite_report
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import SuiteOptions
from bitnet_core.suites.run import Answer, Answerer, Graded, Suites, grade_answers, run_suites, unanswered

REPORT_KEY = suite_report.REPORT_KEY
_SHOWN = 200


def grade_teacher(
    suites: Suites, answers: Mapping[int, Answer], asked: SuiteOptions, runtime: str, reporter: Reporter
) -> dict[str, Any] | None:
    """The teacher's scores, whose verdicts a student is compared with; None without suites. `runtime` answered."""
    if not suites:
        return None
    graded = grade_answers(suites, answers)
    reporter.table("checks", suite_report.COLUMNS, suite_report.table(graded, asked.seed))
    _alert_unanswered(graded, "teacher", reporter)
    return suite_report.record(graded, asked.seed, asked.max_tokens, runtime)


def ask_student(
    suites: Suites, answerer: Answerer, asked: SuiteOptions, baseline: Mapping[str, Any], reporter: Reporter
) -> list[Graded]:
    """The student's graded answers. Their table also has both models on the items that both answered."""
    if not suites:
        return []
    graded = run_suites(suites, answerer)
    verdicts = suite_report.teacher_verdicts(baseline)
    reporter.table("checks", suite_report.COMPARED, suite_report.compared_table(graded, verdicts, asked.seed))
    _alert_unanswered(graded, "student", reporter)
    _alert_other_items(graded, verdicts, suite_report.teacher_unanswered(graded, baseline), reporter)
    _alert_other_length(asked, baseline, reporter)
    return graded


def student_record(
    graded: Sequence[Graded], asked: SuiteOptions, baseline: Mapping[str, Any], runtime: str, *, keep_texts: bool
) -> dict[str, Any] | None:
    """The student's scores, and both sides' on the items that both answered; None without suites."""
    if not graded:
        return None
    both = suite_report.common(graded, suite_report.teacher_verdicts(baseline), asked.seed)
    found = suite_report.record(graded, asked.seed, asked.max_tokens, runtime, keep_texts=keep_texts)
    silent = suite_report.teacher_unanswered(graded, baseline)
    return {**found, "in_common": asdict(both) if both else None, "teacher_unanswered": dict(silent)}


def whole(found: Mapping[str, Any] | None) -> float | None:
    """The score over all suites, for a run's summary."""
    score = found["total"]["score"] if found else None
    return score["value"] if score else None


def _alert_unanswered(graded: Sequence[Graded], who: str, reporter: Reporter) -> None:
    """Say how many items got no answer, with the commonest reason; nothing if all were answered."""
    missing = unanswered(graded)
    if missing:
        reporter.alert(
            "warning",
            "items_unanswered",
            f"The {who} answered {len(graded) - missing.total()} of {len(graded)} items ({_commonest(missing)}).",
            "Its score is over the answered items alone; see the report.",
        )


def _commonest(reasons: Counter[str]) -> str:
    reason, _ = reasons.most_common(1)[0]
    return reason[:_SHOWN].rstrip(".")


def _alert_other_items(
    graded: Sequence[Graded], verdicts: Mapping[str, bool], silent: Counter[str], reporter: Reporter
) -> None:
    """Say that the teacher did not answer, or was not asked, items that the student was asked."""
    if silent:
        reporter.alert(
            "warning",
            "teacher_unanswered",
            f"In its baseline the teacher left {silent.total()} of these {len(graded)} items unanswered "
            f"({_commonest(silent)}).",
            "They count for neither model; if its server was at fault, run `bitnet teacher` again.",
        )
    lacking = sum(one.item.hash not in verdicts for one in graded) - silent.total()
    if lacking > 0:
        reporter.alert(
            "warning",
            "items_not_compared",
            f"The teacher's baseline has {len(graded) - lacking} of these {len(graded)} items.",
            "Run `bitnet teacher` with the same EVAL_SUITE and EVAL_LIMIT to compare on all of them.",
        )


def _alert_other_length(asked: SuiteOptions, baseline: Mapping[str, Any], reporter: Reporter) -> None:
    """Say that the teacher's answers could be of another length than the student's."""
    checks = baseline.get(REPORT_KEY)
    known = checks.get("max_tokens") if isinstance(checks, dict) else None
    if known is not None and known != asked.max_tokens:
        reporter.alert(
            "warning",
            "items_not_alike",
            f"The teacher's answers had at most {known} tokens, the student's {asked.max_tokens}.",
            "Run `bitnet teacher` with the same EVAL_SUITE_MAX_TOKENS.",
        )
