"""The workspace as rows: every experiment with its stages, what runs in it, and its last QEI."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Workspace, last_change, unreadable_words
from bitnet_core.runs.history import History, RecordCache
from bitnet_core.runs.record import RunRecord
from bitnet_core.text import finite, flat
from bitnet_tui.services.settings import experiment_at
from bitnet_tui.view.stage_rows import StageRow, running, stage_rows

_STALE_SECONDS = 15.0


@dataclass(frozen=True)
class ExperimentRow:
    """One experiment. `problem` says what is wrong with its settings or files, `unreadable` with its runs."""

    root: Path
    stages: tuple[StageRow, ...] = ()
    qei: float | None = None
    touched: float | None = None
    problem: str = ""
    unreadable: str = ""

    @property
    def name(self) -> str:
        """The folder's name, safe to show."""
        return flat(self.root.name)

    @property
    def qei_outdated(self) -> bool:
        """Whether something has changed since the evaluation that measured it, or another one followed."""
        return any(stage.name == "eval" and stage.state != "done" for stage in self.stages)

    @property
    def now(self) -> str:
        stage = running(self.stages)
        return f"{stage.name} {stage.note}" if stage else ""


@dataclass
class WorkspaceWatcher:
    """Reads the workspace; an unchanged experiment is not read again. Not thread-safe."""

    home: Path
    clock: Callable[[], float] = time.monotonic
    _caches: dict[Path, RecordCache] = field(default_factory=dict)
    _rows: dict[Path, tuple[tuple[float, ...], float, ExperimentRow]] = field(default_factory=dict)

    def look(self) -> tuple[ExperimentRow, ...]:
        """One row per experiment, those first in which something runs, then the most recently touched.

        The last rows are for folders that can't be read.
        """
        roots, unreadable = Workspace(self.home).look()
        rows = sorted(map(self._row, roots), key=lambda row: not row.now)
        return (*rows, *(ExperimentRow(root, problem=problem) for root, problem in unreadable.items()))

    def _row(self, root: Path) -> ExperimentRow:
        mark = _mark(root)
        known = self._rows.get(root)
        if known and known[0] == mark and not known[2].now and self.clock() - known[1] < _STALE_SECONDS:
            return known[2]
        row = row_of(root, self.home, self._caches.setdefault(root, RecordCache()))
        self._rows[root] = (mark, self.clock(), row)
        return row


def _mark(root: Path) -> tuple[float, ...]:
    """Differs once a run has started or an output has appeared. An experiment that is running is read every time."""
    places = [root, *(root / name for name in (".env", "logs", "data", "reports", "checkpoints"))]
    return tuple(map(last_change, places))


def row_of(root: Path, home: Path, cache: RecordCache | None = None) -> ExperimentRow:
    """One experiment's row; an error in reading it becomes its `problem`."""
    try:
        experiment, problem = experiment_at(root, home)
        history = History.read(experiment, cache)
        touched = _touched(root, history)
        return ExperimentRow(root, stage_rows(history), last_qei(history), touched, problem, history.problem)
    except BitnetError as error:
        return ExperimentRow(root, problem=str(error))
    except (OSError, ValueError, RecursionError) as error:
        return ExperimentRow(root, problem=unreadable_words(root, error))


def _touched(root: Path, history: History) -> float:
    newest = history.entries[0][1] if history.entries else None
    moments = [last_change(root), (newest.ended or newest.started or newest.created) if newest else 0.0]
    return max(moments)


def last_qei(history: History) -> float | None:
    """The QEI of the newest evaluation that succeeded."""

    def has_qei(record: RunRecord) -> bool:
        return record.state == "succeeded" and finite(record.summary.get("qei")) is not None

    evaluation = history.latest("eval", has_qei)
    return finite(evaluation.record.summary["qei"]) if evaluation else None
