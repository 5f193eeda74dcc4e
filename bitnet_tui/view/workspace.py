"""The workspace as rows: every experiment with its stages, what runs in it, its last figures, and its copy."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.catalog import UPLOAD
from bitnet_core.runs.experiment import ARCHIVED, Changes, Workspace, is_archived, last_change, unreadable_words
from bitnet_core.runs.history import History, RecordCache
from bitnet_core.runs.record import RunRecord
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import GateOptions, InitOptions, StudentOptions, TeacherOptions
from bitnet_core.storage.status import version
from bitnet_core.text import finite, flat
from bitnet_tui.services.settings import experiment_beside
from bitnet_tui.view.copy import ended_since, status_of, target_of
from bitnet_tui.view.figures import NO_FIGURES, Figures, FiguresReader
from bitnet_tui.view.stage_rows import StageRow, running, stage_rows

_STALE_SECONDS = 60.0
_SETTLING_SECONDS = 2.0
"""What was changed so lately may still be being written: a new run's folder is there before its record."""
_LISTED = ("", "/.env", "/logs")
"""What the list of the workspace looks at, too."""
_MARKED = ("/data", "/reports", "/checkpoints", f"/{ARCHIVED}", "/.storage")
_FIRST_SECONDS, _LOOK_SECONDS = 0.02, 0.1
"""How long one look works before it tells what it has so far: the list can be used while the rest is read."""
_WAITS = 5
"""How many times as long it lasts at most, when other programs need the processor, or the disk is slow."""


@dataclass(frozen=True)
class Stored:
    """How the copy on a storage target stands. Without a `backend` there is none, and without `at` nothing is stored,
    unless what this machine noted of it is `unreadable`.

    `waiting` files are to be sent; `behind`: a stage has ended since; `upload` is the state of the newest one.
    """

    backend: str = ""
    at: float | None = None
    waiting: int = 0
    behind: bool = False
    upload: str = ""
    unreadable: bool = False


NOT_STORED = Stored()


@dataclass(frozen=True)
class ExperimentRow:
    """One experiment. `problem` says what is wrong with its settings or files, `unreadable` with its runs.

    `qei` is the newest evaluation's, `qei_gate` what its settings ask of it, `gates_failed` how many of all its gates
    it failed. A `pending` one was not read yet. `size` is in bytes, None until it was measured.
    """

    root: Path
    stages: tuple[StageRow, ...] = ()
    qei: float | None = None
    qei_gate: float | None = None
    gates_failed: int = 0
    touched: float | None = None
    problem: str = ""
    unreadable: str = ""
    figures: Figures = NO_FIGURES
    teacher: str = ""
    student: str = ""
    stored: Stored = NOT_STORED
    archived: bool = False
    pending: bool = False
    size: float | None = None

    @property
    def name(self) -> str:
        """The folder's name, safe to show."""
        return flat(self.root.name)

    @property
    def qei_outdated(self) -> bool:
        """Whether something has changed since the evaluation that measured it, or another one followed."""
        return any(stage.name == "eval" and stage.state != "done" for stage in self.stages)

    @property
    def qei_too_low(self) -> bool:
        return self.qei is not None and self.qei_gate is not None and self.qei < self.qei_gate

    @property
    def training_outdated(self) -> bool:
        """Whether something has changed since the training that the figures are of."""
        return any(stage.name == "train" and stage.state == "outdated" for stage in self.stages)

    @property
    def hidden(self) -> bool:
        """Whether it is shown only with the archived ones. What runs is always shown."""
        return self.archived and not self.now

    @cached_property
    def now(self) -> str:
        stage = running(self.stages)
        return f"{stage.name} {stage.note}" if stage else ""


@dataclass
class _Seen:
    """What was read of one experiment, and what its files were like then."""

    row: ExperimentRow
    mark: tuple[float, ...] = ()
    settled: bool = False
    """Whether they had been left alone for a while."""
    at: float = 0.0
    records: RecordCache = field(default_factory=RecordCache)
    figures: FiguresReader = field(default_factory=FiguresReader)


@dataclass
class WorkspaceWatcher:
    """Reads the workspace; an unchanged experiment is not read again. Not thread-safe."""

    home: Path
    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _seen: dict[Path, _Seen] = field(default_factory=dict)
    _sized: dict[Path, tuple[ExperimentRow, ExperimentRow]] = field(default_factory=dict)

    def look(self, seconds: float = float("inf")) -> tuple[ExperimentRow, ...]:
        """One row per experiment, those first in which something runs, by name, then the most recently touched.

        The last rows are for folders that can't be read. After `seconds` of work, or a few times as many by the
        clock, no more experiments are read: the rows of those are as they were, or `pending`.
        """
        over = _over(seconds)
        changes = Changes()
        roots, unreadable = Workspace(self.home).look(changes)
        rows = sorted((self._row(root, changes, over) for root in roots), key=_at_work_first)
        for gone in self._seen.keys() - set(roots):
            del self._seen[gone]
        return (*rows, *(ExperimentRow(root, problem=problem) for root, problem in unreadable.items()))

    def glance(self) -> tuple[ExperimentRow, ...]:
        """As `look`, for a time that holds up no key; the first time little more than names."""
        return self.look(_LOOK_SECONDS if self._seen else _FIRST_SECONDS)

    def sized(
        self, rows: Sequence[ExperimentRow], size_of: Callable[[Path], float | None]
    ) -> tuple[ExperimentRow, ...]:
        """The rows with their sizes; one in which nothing has changed is the same object again."""
        before, self._sized = self._sized, {}
        for row in rows:
            size, known = size_of(row.root), before.get(row.root)
            same = known is not None and known[0] is row and known[1].size == size
            self._sized[row.root] = known if known is not None and same else (row, replace(row, size=size))
        return tuple(row for _, row in self._sized.values())

    def _row(self, root: Path, changes: Changes, over: Callable[[], bool]) -> ExperimentRow:
        seen = self._seen.get(root)
        if seen is None:
            seen = self._seen[root] = _Seen(ExperimentRow(root, touched=changes[str(root)], pending=True))
        if over():
            return seen.row
        mark = _mark(root, changes)
        known = seen.settled and seen.mark == mark and not (seen.row.pending or seen.row.now)
        if not known or self.clock() - seen.at >= _STALE_SECONDS:
            row = row_of(root, self.home, seen.records, seen.figures)
            seen.row = seen.row if seen.row == row else row
            seen.mark, seen.at = mark, self.clock()
            seen.settled = not 0 <= self.wall() - max(mark[: len(_LISTED) + len(_MARKED)]) < _SETTLING_SECONDS
        return seen.row


def _over(seconds: float) -> Callable[[], bool]:
    worked, waited = time.thread_time() + seconds, time.perf_counter() + _WAITS * seconds
    return lambda: time.thread_time() > worked or time.perf_counter() > waited


def _mark(root: Path, changes: Changes) -> tuple[float, ...]:
    """Differs once a run has started or an output has appeared. An experiment that is running is read every time."""
    found = [changes[f"{root}{name}"] for name in _LISTED] + [last_change(f"{root}{name}") for name in _MARKED]
    return (*found, *version(root)) if found[-1] else tuple(found)


def row_of(
    root: Path, home: Path, records: RecordCache | None = None, figures: FiguresReader | None = None
) -> ExperimentRow:
    """One experiment's row; an error in reading it becomes its `problem`."""
    row = ExperimentRow(root)
    try:
        row = replace(row, archived=is_archived(root))
        experiment, problem = experiment_beside(root, home)
        history = History.read(experiment, records)
        qei, gate, failed = last_qei(history)
        return replace(
            row,
            stages=stage_rows(history),
            qei=qei,
            qei_gate=gate,
            gates_failed=failed,
            touched=_touched(root, history),
            problem=problem,
            unreadable=history.problem,
            figures=(figures or FiguresReader()).read(history),
            teacher=teacher_name(experiment.settings),
            student=student_name(experiment.settings),
            stored=_stored(history),
        )
    except BitnetError as error:
        return replace(row, problem=str(error))
    except (OSError, ValueError, RecursionError) as error:
        return replace(row, problem=unreadable_words(root, error))


def _at_work_first(row: ExperimentRow) -> tuple[bool, str]:
    """Those in which something runs are all touched now, and would change places all the time."""
    return not row.now, row.name.casefold() if row.now else ""


def _touched(root: Path, history: History) -> float:
    newest = history.entries[0][1] if history.entries else None
    moments = [last_change(root), (newest.ended or newest.started or newest.created) if newest else 0.0]
    return max(moments)


def last_qei(history: History) -> tuple[float | None, float | None, int]:
    """The QEI of the newest evaluation that succeeded, its gate then, and how many gates that one failed."""

    def has_qei(record: RunRecord) -> bool:
        return record.state == "succeeded" and finite(record.summary.get("qei")) is not None

    evaluation = history.latest("eval", has_qei)
    if evaluation is None:
        return None, None, 0
    record = evaluation.record
    summary = record.summary
    gates = summary.get("gates")
    failed = finite(gates.get("fail")) if isinstance(gates, dict) else None
    try:
        gate = GateOptions.of(Settings.from_record(record.settings, record.origins)).qei
    except (UsageError, TypeError, ValueError):
        gate = None
    return finite(summary["qei"]), gate, int(failed or 0)


def teacher_name(settings: Settings) -> str:
    """The teacher's model, without the folder or the organisation that its name begins with, or else its provider."""
    try:
        options = TeacherOptions.of(settings)
    except UsageError:
        return ""
    model = options.model or options.models.get(options.chosen, "")
    return flat(model.rstrip("/").rpartition("/")[2] or options.chosen)


def student_name(settings: Settings) -> str:
    """The student's preset, and what its first weights come from if they are not random."""
    try:
        start, preset = InitOptions.of(settings), StudentOptions.of(settings).preset
    except UsageError:
        return ""
    if not start.gives_shape:
        return flat(preset)
    return flat(f"from {start.source.rstrip('/').rpartition('/')[2]}")


def _stored(history: History) -> Stored:
    experiment = history.experiment
    backend, _sync = target_of(experiment.settings)
    if not backend:
        return Stored()
    status, upload = status_of(experiment), history.latest(UPLOAD.name)
    behind = status.at is not None and bool(ended_since(history, status.at))
    return Stored(
        backend, status.at, len(status.waiting), behind, upload.state if upload else "", bool(status.unreadable)
    )
