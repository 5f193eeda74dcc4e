"""The stages of an experiment as rows: state, progress, and what can be done with each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bitnet_core.files.regular import open_regular
from bitnet_core.runs.catalog import HALF_MADE, PIPELINE, STAGES, stage
from bitnet_core.runs.events import Progress, decode
from bitnet_core.runs.history import Entry, History, StageStatus
from bitnet_core.runs.outlook import would_use
from bitnet_core.runs.record import ACTIVE
from bitnet_core.runs.spent import seconds, seconds_before
from bitnet_core.text import duration, finite, percent, progress_words, roughly
from bitnet_tui.view.bounded import cut_text

_TAIL_BYTES = 1 << 16
_OF_PREPARATION = ("bytes", "models", "steps")
"""The units of what a stage fetches, loads or fits before its own work; a training's own steps have no label."""
_TRAIN = "train"
_IN_PARTS = ("eval",)
"""Stages whose progress is that of one part after the other: beside the stage it would seem to go back."""
PREPARING = "preparing"
QUEUED = "queued"
UNTOLD = "…"
"""Of a stage that has not told how far it is."""
COPIED = "copied"
"""Of a stage that never ran here and whose files are there, as in a duplicate with its traces."""


@dataclass(frozen=True)
class StageRow:
    """`note` is the progress while the stage runs, else how long its last run took, or that the pipeline comes to it.

    That is `took`, in whole seconds: the time of all runs that it goes on with; of the pipeline, that of its stages
    together, so that they add up to it. `eta` is the time left, where that is known: of the stage's own
    work, or until it begins. One that has not run yet can't while the stages in `lacking` have left nothing. `error`
    is why its last run ended, unless that succeeded. A running pipeline `waits_for` the run with that id; the row of
    that run is `in_pipeline`, and both end together. A stage may also run beside the pipeline.
    """

    name: str
    title: str
    state: str
    note: str = ""
    run_id: str | None = None
    lacking: tuple[str, ...] = ()
    eta: str = ""
    error: str = ""
    keeps: bool = True
    """Whether the work of this one is saved, if it is stopped now or has been."""
    used: bool = True
    """Whether the next run goes on with it: after some changes of settings it begins anew."""
    waits_for: str = ""
    in_pipeline: bool = False
    took: int | None = None

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def copied(self) -> bool:
        """Whether what it leaves came from elsewhere: it need not run, though no run of it is here."""
        return self.note == COPIED

    @property
    def shown_state(self) -> str:
        """The state whose sign it has: what was copied is there, as what was done."""
        return "done" if self.copied else self.state

    def at_work(self, progress: Progress | None) -> "StageRow":
        """The row with the progress of its run."""
        if prepares(self.name, progress):
            first = finite(progress.first_step_in_s) if progress is not None else None
            return replace(self, note=PREPARING, eta="" if first is None else roughly(first))
        if self.name in _IN_PARTS and progress is not None and progress.label:
            return replace(self, note=UNTOLD)
        waits_for = progress.run if progress is not None and isinstance(progress.run, str) else ""
        eta = roughly(progress.eta_s) if progress is not None and finite(progress.eta_s) is not None else ""
        keeps = self.keeps or self.name == _TRAIN  # a stop saves the steps that are done
        note = progress_note(progress)
        if progress is not None and (part := _part(progress)):
            note = f"part {part[0]:.0f}/{part[1]:.0f} {percent(progress.done, progress.total)}"
            eta = "" if more_parts(progress) else eta
        return replace(self, note=note, eta=eta, keeps=keeps, waits_for=waits_for)

    def _ended(self, took: int) -> "StageRow":
        return replace(self, took=took, note=duration(took))

    @property
    def brief_note(self) -> str:
        """The note in fewer cells: `in 9 min`, `1/2 58%`."""
        if self.note == PREPARING:
            return f"in {self.eta}" if self.eta else UNTOLD
        return self.note.removeprefix("part ")

    @property
    def due_note(self) -> str:
        """The note; of a preparation, when the stage's own work begins, where that is known: `starts in 9 min`."""
        return f"starts in {self.eta}" if self.note == PREPARING and self.eta else self.note

    @property
    def resumable(self) -> bool:
        """Whether another start goes on where its last run stopped."""
        return self.state in ("cancelled", "interrupted") and self.keeps and self.used


def short_time(note: str) -> str:
    """With the time in fewer cells: `22% 16m`, `in 1h 10m`."""
    return note.replace(" min", "m").replace(" h", "h")


def stage_rows(history: History) -> tuple[StageRow, ...]:
    """The pipeline first, then the five stages in order."""
    statuses = [history.status(name) for name in STAGES]
    pipeline, *rows = (_row(history, status) for status in (_pipeline(history, statuses), *statuses))
    if not pipeline.active:
        return (pipeline if pipeline.took is None else pipeline._ended(sum(row.took or 0 for row in rows)), *rows)
    started = {one.last.run.id for one in statuses if one.last and one.last.record.starter == pipeline.run_id}
    awaited = {*started, pipeline.waits_for}
    return (pipeline, *_queued([replace(row, in_pipeline=row.active and row.run_id in awaited) for row in rows]))


def _row(history: History, status: StageStatus) -> StageRow:
    last = status.last
    lacking = history.lacking(status.stage) if status.state == "new" else ()
    row = StageRow(status.stage, stage(status.stage).title, status.state, "", last.run.id if last else None, lacking)
    row = replace(row, keeps=stage(status.stage).resumes)
    if last is None:
        here = status.stage in STAGES and history.is_complete(status.stage)
        return replace(row, note=COPIED) if here else row
    progress = last_progress(last.run.events_path) if row.active else None
    if status.stage == _TRAIN and last.state != "succeeded":
        row = _training(row, history, last, progress)
    if row.active:
        return row.at_work(progress)
    took = seconds(last) if last.record.ended is not None else None
    row = replace(row, error=cut_text(last.error))
    return row if took is None else row._ended(round(took + seconds_before(history, last)))


def _training(row: StageRow, history: History, last: Entry, progress: Progress | None) -> StageRow:
    """With what it has saved: checkpoints or, while its start is being made, a part of that."""
    if history.is_complete(_TRAIN) or (progress is not None and not prepares(_TRAIN, progress)):
        return replace(row, used=would_use(history, last))
    return replace(row, keeps=history.experiment.holds(HALF_MADE) and would_use(history, last, start_alone=True))


def _queued(rows: Sequence[StageRow]) -> list[StageRow]:
    """The rows; those that a running pipeline has not reached yet, and has to run, are noted as queued."""
    running_at = max((place for place, row in enumerate(rows) if row.in_pipeline), default=-1)
    waits = [
        place > running_at and row.state != "done" and not (row.active or row.copied)
        for place, row in enumerate(rows)
    ]
    return [replace(row, note=QUEUED) if waiting else row for row, waiting in zip(rows, waits, strict=True)]


def _pipeline(history: History, statuses: Sequence[StageStatus]) -> StageStatus:
    """The pipeline is done as long as every stage is; it has no settings of its own."""
    last = history.latest(PIPELINE.name)
    state = last.state if last else "new"
    if state == "succeeded":
        state = "done" if all(status.state == "done" for status in statuses) else "outdated"
    return StageStatus(PIPELINE.name, state, last)


def prepares(name: str, progress: Progress | None) -> bool:
    """Whether the stage does not do its own work yet: how far its preparation is says nothing of the stage."""
    if progress is None or not progress.label:
        return False
    if name == _TRAIN:
        return finite(progress.step) is None
    return progress.unit in _OF_PREPARATION


def progress_note(progress: Progress | None) -> str:
    """How far a stage is, in a few cells."""
    if progress is None or progress.total is None or not progress_words(progress.done, progress.total, progress.unit):
        return UNTOLD
    if progress.total <= 20:
        return progress_words(progress.done, progress.total, "")
    return percent(progress.done, progress.total)


def _part(progress: Progress) -> tuple[float, float] | None:
    """The part that it is of, and how many there are; None for a stage whose work has one."""
    part, parts = finite(progress.part), finite(progress.parts)
    return (part, parts) if part and parts and parts > 1 and progress.total else None


def more_parts(progress: Progress) -> bool:
    """Whether other parts of the stage's work come after this one."""
    part = _part(progress)
    return part is not None and part[0] < part[1]


def last_progress(path: Path) -> Progress | None:
    """The newest progress near the end of a file that may be growing; unreadable lines are skipped."""
    try:
        with open_regular(path) as source:
            source.seek(max(0, source.seek(0, 2) - _TAIL_BYTES))
            events = map(decode, reversed(source.read().split(b"\n")))
    except OSError:
        return None
    return next((event for event in events if isinstance(event, Progress)), None)


def ending_with(row: StageRow, rows: Sequence[StageRow]) -> tuple[StageRow, ...]:
    """The active rows that end when this one is stopped, it among them."""
    if row.name != PIPELINE.name and not row.in_pipeline:
        return (row,)
    return tuple(one for one in rows if one.active and (one.name == PIPELINE.name or one.in_pipeline))


def running(rows: tuple[StageRow, ...]) -> StageRow | None:
    """The row that is running: the stage itself rather than the pipeline that waits for it."""
    return next((row for row in reversed(rows) if row.active), None)
