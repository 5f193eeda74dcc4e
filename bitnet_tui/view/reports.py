"""The results of an experiment: those of the shown run, of its evaluation and its baseline, and answers side by side.

Tables are those that the runs have reported; the answers of teacher and student are in the reports on disk.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.runs.catalog import STAGES
from bitnet_core.runs.events import Table
from bitnet_core.runs.history import History, RecordCache
from bitnet_core.runs.record import Run
from bitnet_core.text import ago, crop, flat, pad, wrap
from bitnet_tui.services.settings import experiment_at, require_experiment
from bitnet_tui.view import panels, result_tables
from bitnet_tui.view.bounded import cut_text
from bitnet_tui.view.json_files import JsonFiles
from bitnet_tui.view.run_fold import RunFold
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.view.states import look
from bitnet_tui.view.watch import RunShown

_MADE_BY = {"eval": "Evaluation", "teacher": "Teacher baseline"}
_FILES = {stage: STAGES[stage].outputs[0][1] for stage in _MADE_BY}
_MOST_BYTES = 16 << 20
_MOST_ANSWERS = 60
_MOST_LINES = 12
"""Of one answer."""
_WIDE = 74
"""Cells from which two answers stand side by side."""


@dataclass(frozen=True)
class Report:
    """The tables of the newest run of a stage that succeeded. `state` is how the stage stands now."""

    stage: str
    run_id: str
    state: str
    ended: float | None
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Answer:
    """An answer of one model; `passed` is None where no program has graded it."""

    text: str
    passed: bool | None = None
    reason: str = ""


@dataclass(frozen=True)
class Pair:
    """What both models made of one prompt or item; None for a model that was not asked."""

    subject: str
    teacher: Answer | None
    student: Answer | None


@dataclass(frozen=True)
class ReportsView:
    reports: tuple[Report, ...] = ()
    answers: tuple[Pair, ...] = ()


@dataclass
class ReportReader:
    """Reads a run's events and a report again only if they have changed. For one thread."""

    root: Path
    home: Path
    _tables: dict[str, tuple[Table, ...]] = field(default_factory=dict)
    _files: JsonFiles = field(default_factory=lambda: JsonFiles(_MOST_BYTES))
    _records: RecordCache = field(default_factory=RecordCache)

    def read(self) -> ReportsView:
        """Empty where nothing can be read: the screen says why."""
        try:
            require_experiment(self.root)
            experiment, _ = experiment_at(self.root, self.home)
            history = History.read(experiment, self._records)
            reports = tuple(report for stage in _MADE_BY if (report := self._report(history, stage)) is not None)
            files = {stage: self._files.read(experiment.reports / name) for stage, name in _FILES.items()}
        except (BitnetError, OSError, ValueError, RecursionError):
            return ReportsView()
        return ReportsView(reports, tuple(pairs(files["teacher"], files["eval"])))

    def _report(self, history: History, stage: str) -> Report | None:
        made = history.latest(stage, lambda record: record.state == "succeeded")
        if made is None:
            return None
        if made.run.id not in self._tables:
            self._tables[made.run.id] = _tables(made.run)
        tables = self._tables[made.run.id]
        return Report(stage, made.run.id, history.status(stage).state, made.record.ended, tables)


def _tables(run: Run) -> tuple[Table, ...]:
    fold, read_new = RunFold(), run.reader().read_new
    while events := read_new():
        fold.feed(events)
    return fold.view().tables


# -- answers ---------------------------------------------------------------------------------------------------------


def pairs(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> Iterator[Pair]:
    """What both were asked, first the items that a program has graded; then what only one was asked."""
    graded = _items(teacher), _items(student)
    free = _texts(teacher.get("generations")), _texts(student.get("samples"))
    found = [Pair(one, left.get(one), right.get(one)) for left, right in (graded, free) for one in {**left, **right}]
    both = [pair for pair in found if pair.teacher is not None and pair.student is not None]
    yield from [*both, *(pair for pair in found if pair not in both)][:_MOST_ANSWERS]


def _items(report: Mapping[str, Any]) -> dict[str, Answer]:
    checks = report.get("checks")
    found: dict[str, Answer] = {}
    for one in _dicts(checks.get("answers") if isinstance(checks, dict) else None):
        if isinstance(one.get("id"), str) and isinstance(one.get("text"), str):
            passed = one.get("passed")
            reason = one.get("reason")
            found[one["id"]] = Answer(
                cut_text(one["text"]),
                passed if isinstance(passed, bool) else None,
                reason if isinstance(reason, str) else "",
            )
    return found


def _texts(answers: object) -> dict[str, Answer]:
    return {
        one["prompt"]: Answer(cut_text(one["text"]))
        for one in _dicts(answers)
        if isinstance(one.get("prompt"), str) and isinstance(one.get("text"), str)
    }


def _dicts(found: object) -> list[dict[str, Any]]:
    return [one for one in found[: 10 * _MOST_ANSWERS] if isinstance(one, dict)] if isinstance(found, list) else []


# -- drawing ---------------------------------------------------------------------------------------------------------


def report_lines(run: RunShown | None, view: ReportsView, cells: int) -> tuple[Line, ...]:
    """The tables of the shown run, those of the evaluation and the baseline that it has not, and answers."""
    lines: list[Line] = []
    shown, answers = run.view.tables if run else (), answer_lines(view.answers, cells)
    if run is not None and (shown or run.active):
        lines += panels.result_lines(run, cells)
    if run is not None and (run.active or not answers):
        lines += panels.sample_lines(run, cells)
    names = {table.name for table in shown}
    for report in view.reports:
        if run is None or report.run_id != run.id:
            lines += _report_lines(report, names if run and run.stage == "pipeline" else set(), cells)
    lines += answers
    return tuple(lines) or panels.result_lines(None, cells)


def _report_lines(report: Report, shown: set[str], cells: int) -> list[Line]:
    tables = [table for table in result_tables.in_order(report.tables) if table.name not in shown]
    if not tables:
        return []
    when = f"  {ago(report.ended, time.time())}" if report.ended else ""
    heading = [Span(f"── {_MADE_BY[report.stage]}", "accent"), Span(when, "label")]
    if report.state == "outdated":
        state = look(report.state)
        heading.append(Span(f"  {state.glyph} {state.word}: settings or input have changed since", state.style))
    lines: list[Line] = [tuple(heading), ()]
    for table in tables:
        lines += [*result_tables.table_lines(table, cells), ()]
    return lines


def answer_lines(answers: Sequence[Pair], cells: int) -> list[Line]:
    """Teacher's and student's answers, side by side where there is room."""
    if not answers:
        return []
    lines: list[Line] = [line(Span("── Answers", "accent"), Span("  the teacher's and the student's", "label")), ()]
    for pair in answers:
        lines += [line(Span(crop(f"› {flat(pair.subject)}", cells), "title"))]
        both = pair.teacher is not None and pair.student is not None
        lines += _beside(pair, cells) if both and cells >= _WIDE else _below(pair, cells)
        lines.append(())
    return lines


def _beside(pair: Pair, cells: int) -> list[Line]:
    half = (cells - 3) // 2
    left, right = _answer("teacher", pair.teacher, half), _answer("student", pair.student, half)
    rows = max(len(left), len(right))
    empty = Span("", "")
    both = zip([*left, *[empty] * (rows - len(left))], [*right, *[empty] * (rows - len(right))], strict=True)
    return [line(Span(pad(one.text, half), one.style), Span(" │ ", "faint"), other) for one, other in both]


def _below(pair: Pair, cells: int) -> list[Line]:
    lines = []
    for who, answer in (("teacher", pair.teacher), ("student", pair.student)):
        lines += [line(span) for span in _answer(who, answer, cells)] if answer is not None else []
    return lines


def _answer(who: str, answer: Answer | None, cells: int) -> list[Span]:
    """Who, whether it passed, and the text."""
    if answer is None:
        return []
    mark = {True: "  ✓ passed", False: f"  ✗ {flat(answer.reason) or 'failed'}", None: ""}[answer.passed]
    style = {True: "good", False: "warn", None: "label"}[answer.passed]
    texts = [piece for part in answer.text.splitlines() for piece in wrap(flat(part), cells) or [""]]
    cut = texts[:_MOST_LINES] + (["…"] if len(texts) > _MOST_LINES else [])
    return [Span(crop(f"{who}{mark}", cells), style), *(Span(crop(one, cells)) for one in cut or ["(empty)"])]
