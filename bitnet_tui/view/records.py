"""Reads an experiment's runs again and again, cheaply: a record that did not change on disk is not parsed twice."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.runs.events import Progress, decode
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.secrets.resolving import resolve

_TAIL_BYTES = 1 << 16


@dataclass
class RecordCache:
    """For one experiment. Not for two threads at once."""

    _known: dict[Path, tuple[int, int, RunRecord]] = field(default_factory=dict)

    def history(self, experiment: Experiment) -> History:
        """What `History.read` gives."""
        entries: list[tuple[Run, RunRecord]] = []
        folders = list(experiment.logs.iterdir()) if experiment.logs.is_dir() else []
        for folder in folders:
            with contextlib.suppress(OSError, BitnetError):
                status = (folder / "run.json").stat()
                mark = (status.st_mtime_ns, status.st_ino)
                known = self._known.get(folder)
                record = known[2] if known and known[:2] == mark else Run(folder).record()
                self._known[folder] = (*mark, record)
                entries.append((Run(folder), record))
        return History(experiment, tuple(sorted(entries, key=lambda entry: entry[1].created, reverse=True)))


def experiment_at(root: Path, home: Path) -> tuple[Experiment, str]:
    """The experiment and what is wrong with its settings (empty when nothing is)."""
    resolution = resolve({"BITNET_HOME": str(home)}, root=root)
    errors = "\n".join(p.message for p in resolution.problems if p.severity == "error")
    return Experiment.from_settings(resolution.settings), errors


def last_progress(path: Path) -> Progress | None:
    """The newest progress near the end of a file that may be growing; torn lines are passed over."""
    try:
        with path.open("rb") as source:
            end = source.seek(0, 2)
            source.seek(max(0, end - _TAIL_BYTES))
            lines = source.read().split(b"\n")
    except OSError:
        return None
    for raw in reversed(lines):
        event = decode(raw)
        if isinstance(event, Progress):
            return event
    return None
