"""What a pull replaces and nobody has stored is moved aside, never deleted.

A journal becomes a copy beside itself, which the next collect takes in. Everything else goes to `superseded/` in the
experiment's folder, which is not stored.
"""

import contextlib
import os
import secrets
import shutil
import sqlite3
import time
from pathlib import Path

from bitnet_core.files.regular import open_for_fsync

_FOLDER = "superseded"
_JOURNAL = "journal/journal.sqlite"
"""How the name of a journal ends, as in `data.journal/journal.sqlite`."""
_SHOWN = 3
_LOCK_SECONDS = 2


class Aside:
    """What one pull has moved aside; `moved` has where, for each file's name."""

    def __init__(self, root: Path) -> None:
        self.moved: dict[str, Path] = {}
        self._root = root
        self._folder: Path | None = None

    def take(self, path: Path, name: str) -> None:
        """Keep what is at `path` elsewhere: a file is linked or copied, a journal or a folder moved. OSError."""
        if name.endswith(_JOURNAL) and path.is_file() and not path.is_symlink():
            with contextlib.suppress(sqlite3.Error):  # damaged, or in use: kept as it is
                self.moved[name] = _made_a_copy(path)
                return
        kept = self._new_folder() / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.move(path, kept)
        else:
            _link_or_copy(path, kept)
        for log in logs_of(path):
            if log.exists():
                shutil.move(log, kept.with_name(log.name))
        self.moved[name] = kept

    def sentences(self) -> list[str]:
        """Where what was replaced is now."""
        copies = {name: path for name, path in self.moved.items() if self._is_copy(path)}
        found = [
            f"{name} that was here is now {path}; the next `bitnet collect` takes its answers in."
            for name, path in copies.items()
        ]
        if others := [name for name in self.moved if name not in copies]:
            more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
            found.append(f"What was here of {', '.join(others[:_SHOWN])}{more} is now in {self._folder}.")
        return found

    def _is_copy(self, path: Path) -> bool:
        return self._folder is None or not path.is_relative_to(self._folder)

    def _new_folder(self) -> Path:
        if self._folder is None:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            self._folder = self._root / _FOLDER / stamp
            while self._folder.exists():  # two pulls within a second
                self._folder = self._folder.with_name(f"{stamp}-{secrets.token_hex(2)}")
        return self._folder


def logs_of(path: Path) -> list[Path]:
    """What SQLite has beside a database: its newest part, and an index of that. Neither may stay beside another."""
    return [path.with_name(f"{path.name}-{what}") for what in ("wal", "shm")] if path.suffix == ".sqlite" else []


def _made_a_copy(path: Path) -> Path:
    """Give a journal the name of a copy that the next collect takes in (`collecting/journal_file.py`)."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    copy = path.with_name(f"{path.stem}.copy-{stamp}-{secrets.token_hex(4)}{path.suffix}")
    with contextlib.closing(sqlite3.connect(path, timeout=_LOCK_SECONDS, isolation_level=None)) as db:
        db.execute("pragma locking_mode=exclusive")
        db.execute("pragma journal_mode=delete")  # everything in one file
        db.execute("begin exclusive")
        db.execute("commit")
        path.rename(copy)
    return copy


def _link_or_copy(path: Path, kept: Path) -> None:
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, kept, follow_symlinks=False)
        if not kept.is_symlink():
            with open_for_fsync(kept) as copy:
                os.fsync(copy.fileno())
