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
from bitnet_core.settings import dotenv
from bitnet_core.settings.kinds import as_path
from bitnet_core.settings.references import names_in
from bitnet_core.settings.registry import REGISTRY, SECRET_NAMES
from bitnet_tui.services.settings import resolved

_writing = threading.Lock()
_turns: dict[Path, int] = {}
_NOT_COPIED = ("Place", "Keys")
"""Sections whose settings are one experiment's own, or this user's."""


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
        """Only this user may read it. BitnetError or OSError if it can't be written.

        `turn` grows with time: a write that comes after a later one, of a slow disk, changes nothing.
        """
        with _writing:
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


@dataclass(frozen=True)
class Copied:
    """The settings of an experiment for another one, and the names of keys in its `.env`, which are not copied."""

    values: dict[str, str]
    keys: tuple[str, ...] = ()


def settings_of(home: Path, root: Path) -> Copied:
    """What the `.env` of an experiment says, without its places and its name on a target. UsageError if unreadable.

    References are replaced by what they stand for, and relative paths by absolute ones: both would mean something
    else in another folder.
    """
    path = root / ".env"
    written = dotenv.read_dotenv(path).values if files.is_file(path) else {}
    known = resolved(home, root).settings.values
    values = {
        name: _text(name, text, known.get(name), root)
        for name, text in written.items()
        if name in REGISTRY and name not in SECRET_NAMES and REGISTRY[name].section not in _NOT_COPIED
    }
    values.pop("STORAGE_NAME", None)
    keys = tuple(sorted(name for name in written if name in SECRET_NAMES))
    return Copied({name: text for name, text in values.items() if text}, keys)


def _text(name: str, text: str, value: object, root: Path) -> str:
    if names_in(text):
        text = "" if value is None else str(int(value)) if isinstance(value, bool) else str(value)
    if text and REGISTRY[name].kind == "path":
        with contextlib.suppress(ValueError):
            return str(as_path(text, root))
    return text
