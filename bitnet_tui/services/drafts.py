"""Keeps the draft of an experiment in the user's state folder, and makes one out of an experiment. No key is kept."""

import contextlib
import hashlib
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import state_folder
from bitnet_core.files.writable import writing
from bitnet_core.runs.copied import Copied, copied_of
from bitnet_core.runs.experiment import Workspace
from bitnet_tui.services.settings import overrides

_MOST_OTHERS = 20
_writing = threading.Lock()
_turns: dict[Path, int] = {}


@dataclass(frozen=True)
class Kept:
    """Where the draft of one workspace is; of a duplicate, that of one source."""

    home: Path
    source: Path | None = None

    @property
    def path(self) -> Path:
        named = f"{self.home.absolute()}\0{self.source.absolute() if self.source else ''}"
        return state_folder() / "drafts" / f"{hashlib.sha256(named.encode(errors='replace')).hexdigest()[:16]}.json"

    def read(self) -> Any:
        """The record; None if there is none, or it can't be read."""
        with contextlib.suppress(BitnetError, OSError):
            return files.read_json(self.path)
        return None

    def write(self, record: dict[str, object], turn: int) -> None:
        """Only this user may read it. BitnetError if it can't be written.

        `turn` grows with time: a write that comes after a later one, of a slow disk, changes nothing.
        """
        with _writing, writing(self.path, "correct the permissions of its folder"):
            if self._is_latest(turn):
                self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                files.write_bytes(self.path, files.json_bytes(record), 0o600)

    def remove(self, turn: int) -> None:
        """Forget it, and whatever was to be written before this turn."""
        with _writing, contextlib.suppress(BitnetError, OSError):
            if self._is_latest(turn):
                self.path.unlink(missing_ok=True)

    def _is_latest(self, turn: int) -> bool:
        latest = max(turn, _turns.get(self.path, turn))
        _turns[self.path] = latest
        return turn == latest


def others(home: Path, source: Path | None = None) -> list[tuple[str, dict[str, str]]]:
    """The names and settings of the experiments here but `source`, the most recently changed first."""
    found = []
    for root in [one for one in Workspace(home).experiments() if one != source][:_MOST_OTHERS]:
        with contextlib.suppress(BitnetError, OSError):
            found.append((root.name, copied_of(root, overrides(home)).values))
    return found


def settings_of(home: Path, root: Path) -> Copied:
    """What a duplicate takes over of an experiment in this workspace. UsageError if its `.env` can't be read."""
    return copied_of(root, overrides(home))
