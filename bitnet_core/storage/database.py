"""A consistent copy of an SQLite file that another process may hold under an exclusive lock.

The file and its log are copied as they are. If there was no checkpoint meanwhile, the pair is one moment of the
database; opening the copy puts the log in.
"""

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from bitnet_core.errors import BitnetError
from bitnet_core.storage.snapshot import version_of

_ATTEMPTS = 20
_WAIT_SECONDS = 0.25
_HEADER_BYTES = 32
"""A log's header; SQLite writes another one when it starts the log again."""


class NotCopied(BitnetError):
    """The database can't be copied now."""


def version_of_database(path: Path) -> str:
    """What identifies its content without reading it, as a snapshot has it: its newest part is in its log."""
    log = path.with_name(f"{path.name}-wal")
    return version_of(path.stat()) + (version_of(log.stat()) if log.exists() else "")


@contextlib.contextmanager
def copied(path: Path, folder: Path) -> Iterator[Path]:
    """A copy of the database in `folder`, removed afterwards. NotCopied if it changes faster than it is copied."""
    copy = folder / f"copy-of-{path.name}"
    log = copy.with_name(f"{copy.name}-wal")
    try:
        for _ in range(_ATTEMPTS):
            if _copy_pair(path, copy, log):
                break
            time.sleep(_WAIT_SECONDS)
        else:
            raise NotCopied(f"{path} changes faster than it can be copied; it is stored when the stage has ended.")
        _merge(copy)
        yield copy
    finally:
        for one in (copy, log, copy.with_name(f"{copy.name}-shm")):
            one.unlink(missing_ok=True)


def _copy_pair(path: Path, copy: Path, log: Path) -> bool:
    """Copy the file and its log. False if they may be of two moments."""
    source = path.with_name(f"{path.name}-wal")
    before = _state(path, source)
    shutil.copyfile(path, copy)
    log.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, log)
    return before == _state(path, source)


def _state(path: Path, log: Path) -> tuple[int, int, bytes]:
    status = path.stat()
    try:
        with log.open("rb") as source:
            header = source.read(_HEADER_BYTES)
    except FileNotFoundError:
        header = b""
    return status.st_size, status.st_mtime_ns, header


def _merge(copy: Path) -> None:
    """Put the log into the copy, so that it is one file."""
    try:
        with contextlib.closing(sqlite3.connect(copy)) as db:
            db.execute("pragma wal_checkpoint(truncate)")
            db.execute("pragma journal_mode=delete")
    except sqlite3.DatabaseError as error:
        raise NotCopied(f"{copy.name.removeprefix('copy-of-')} can't be copied ({error}); check its disk.") from error
