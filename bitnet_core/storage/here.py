"""What is here of a copy: where a stored file belongs, and whether it is here as it is stored. Changes nothing."""

import os
import unicodedata
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.files import real_path
from bitnet_core.files.regular import open_regular
from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage.aside import logs_of
from bitnet_core.storage.database import version_of_database
from bitnet_core.storage.hashing import hash_file
from bitnet_core.storage.layout import Known, Stored
from bitnet_core.storage.left_out import is_left_out
from bitnet_core.storage.snapshot import version_of
from bitnet_core.storage.state import State, lock_path
from bitnet_core.storage.travel import SETTINGS_FILE
from bitnet_core.text import printable


class Here:
    """The files of an experiment's folders. What is hashed is noted in the state."""

    def __init__(self, experiment: Experiment, state: State) -> None:
        self._experiment = experiment
        self._state = state

    def path_of(self, name: str) -> Path:
        """Where a stored file belongs here. BitnetError for a name that leads elsewhere."""
        top, _, rest = name.partition("/")
        folders = {
            "checkpoints": self._experiment.checkpoints,
            "data": self._experiment.data,
            "reports": self._experiment.reports,
            "logs": self._experiment.logs,
        }
        if top in folders and rest and not is_left_out(name):
            return _as_spelled(folders[top], rest)
        if top.startswith("data.") and rest and not is_left_out(name):
            data = real_path(self._experiment.data)
            return _as_spelled(data.with_name(data.name + top.removeprefix("data")), rest)
        if name == SETTINGS_FILE:  # a copy to look at, so it may be replaced; the settings here are in `.env`
            return lock_path(self._experiment.root).with_name(name)
        if top == "inputs" and rest and not is_left_out(name):
            return self._experiment.root / name
        raise BitnetError(
            f"{printable(name)[:200]} is not a file of an experiment; the manifest is not one of bitnet's."
        )

    def has(self, entry: Stored) -> bool:
        """Whether the file is here with this content."""
        path = self.path_of(entry.name)
        try:
            with open_regular(path) as source:
                status = os.fstat(source.fileno())
        except OSError:
            return False
        if status.st_size != entry.size:
            return False
        known = self._state.known(entry.name, version_of(status)) or self._hashed(path, entry)
        return entry.has(known)

    def glance(self, entry: Stored) -> str:
        """How the file here is, by what is known without reading it: `missing`, `differs`, `same`, or `unread`."""
        try:
            status = self.path_of(entry.name).lstat()
        except OSError:
            return "missing"
        if status.st_size != entry.size:
            return "differs"
        known = self._state.known(entry.name, version_of(status))
        return "unread" if known is None else "same" if entry.has(known) else "differs"

    def _hashed(self, path: Path, entry: Stored) -> Known:
        known = Known(hash_file(path, entry.part_bytes), entry.part_bytes)
        self._state.know(entry.name, version_of(path.stat()), known)
        return known

    def is_changed(self, name: str) -> bool:
        """Whether what is here is not what this machine last stored or brought."""
        path, shared = self.path_of(name), self._state.shared(name)
        if shared is None or path.is_symlink():
            return True
        size, then = shared
        try:
            version = version_of_database(path) if logs_of(path) else version_of(path.stat())
            known = self._state.known(name, version)
            if known is None and path.stat().st_size == size and not any(log.exists() for log in logs_of(path)):
                known = Known(hash_file(path, then.part_bytes), then.part_bytes)
                self._state.know(name, version, known)
        except OSError:
            return True
        return known != then

    def require_inside(self, path: Path) -> None:
        """No folder on the way may be a link out of the experiment: what is stored must not choose where it goes."""
        tops = {
            real_path(folder)
            for folder in (
                self._experiment.root,
                self._experiment.checkpoints,
                self._experiment.data.parent,
                self._experiment.reports,
                self._experiment.logs,
            )
        }
        parent = real_path(path.parent)
        if not any(parent.is_relative_to(top) for top in tops):
            raise BitnetError(f"{path} would be written outside the experiment, through a link; remove that link.")


def _as_spelled(folder: Path, name: str) -> Path:
    """Where a file is in a folder: its name is stored composed, and may be decomposed here (`snapshot.py`)."""
    composed, decomposed = folder / name, folder / unicodedata.normalize("NFD", name)
    return decomposed if not os.path.lexists(composed) and os.path.lexists(decomposed) else composed
