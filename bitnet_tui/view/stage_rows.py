"""The stages of an experiment as rows: state, progress, and what may be done with each."""

from dataclasses import dataclass

from bitnet_core.history import History
from bitnet_core.run_record import Run, RunRecord
from bitnet_core.stages.catalog import PIPELINE, STAGES, stage
from bitnet_tui.view.numbers import duration, percent, size
from bitnet_tui.view.records import last_event
from bitnet_tui.view.run_fold import Progress
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
        event = last_event(run.events_path, "progress")
        if event is None:
            return "…"
        done, total = event.get("done"), event.get("total")
        if not isinstance(done, int | float) or not isinstance(total, int | float):
            return "…"
        return f"{done:.0f}/{total:.0f}" if total <= 20 else percent(done, total)
    if record.started and record.ended:
        return duration(record.ended - record.started)
    return ""


def running(rows: tuple[StageRow, ...]) -> StageRow | None:
    """What is at work: the stage itself rather than the pipeline that waits for it."""
    active = [row for row in rows if row.active]
    return active[-1] if active else None


def progress_text(progress: Progress | None) -> str:
    """`37/120 sequences`, `41 MB of 93 MB`, or `37 sequences` when the whole is not known."""
    if progress is None:
        return ""
    if progress.unit == "bytes":
        return size(progress.done) + (f" of {size(progress.total)}" if progress.total is not None else "")
    whole = f"/{progress.total:,.0f}" if progress.total is not None else ""
    return f"{progress.done:,.0f}{whole} {progress.unit}".strip()
