"""The stages of an experiment as rows: state, progress, and what may be done with each."""

from dataclasses import dataclass

from bitnet_core.runs.catalog import PIPELINE, STAGES, stage
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.text import duration, percent, progress_words
from bitnet_tui.view.records import last_progress
from bitnet_tui.view.states import ACTIVE, RESUMABLE

ROWS = (PIPELINE.name, *STAGES)


@dataclass(frozen=True)
class StageRow:
    """`note` is short: progress while it runs, else how long its last run took."""

    name: str
    title: str
    state: str
    note: str = ""
    run_id: str | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def resumable(self) -> bool:
        return self.state in RESUMABLE


def stage_rows(history: History) -> tuple[StageRow, ...]:
    """The pipeline first, then the five stages in order."""
    records = {run.id: record for run, record in history.entries}
    rows = []
    for name in ROWS:
        state, run = _pipeline(history) if name == PIPELINE.name else _stage(history, name)
        record = records[run.id] if run else None
        note = _note(run, record, state) if run and record else ""
        rows.append(StageRow(name, stage(name).title, state, note, run.id if run else None))
    return tuple(rows)


def _stage(history: History, name: str) -> tuple[str, Run | None]:
    status = history.status(name)
    return status.state, status.run


def _pipeline(history: History) -> tuple[str, Run | None]:
    """The pipeline's own settings decide nothing: it is done while every stage is."""
    run = history.latest(PIPELINE.name)
    record = next((r for candidate, r in history.entries if candidate == run), None)
    if run is None or record is None:
        return "new", None
    state = run.state_of(record)
    if state == "succeeded":
        state = "done" if all(history.status(name).state == "done" for name in STAGES) else "outdated"
    return state, run


def _note(run: Run, record: RunRecord, state: str) -> str:
    if state in ACTIVE:
        event = last_progress(run.events_path)
        if event is None or event.total is None:
            return "…"
        if event.total <= 20:
            return progress_words(event.done, event.total, "")
        return percent(event.done, event.total)
    if record.started and record.ended:
        return duration(record.ended - record.started)
    return ""


def running(rows: tuple[StageRow, ...]) -> StageRow | None:
    """What is at work: the stage itself rather than the pipeline that waits for it."""
    active = [row for row in rows if row.active]
    return active[-1] if active else None
