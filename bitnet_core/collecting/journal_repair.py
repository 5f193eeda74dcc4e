"""A damaged journal is replaced by one with the rows that can still be read; the damaged file is kept beside it."""

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitnet_core import files
from bitnet_core.collecting.journal_file import transaction, wal_of
from bitnet_core.collecting.journal_salvage import Salvaged, salvage

_INSERT_ANSWER = "insert into answers (key, status, body, at, attempts, crc) values (?, ?, ?, ?, ?, ?)"
_INSERT_NOTE = "insert into notes (key, value) values (?, ?)"
_INSERT_SENDING = (
    "insert into sendings (id, key, prompt_tokens, completion_tokens, usd, state) values (?, ?, ?, ?, ?, ?)"
)


@dataclass(frozen=True)
class Repaired:
    """The damaged file is `kept`; `why` is what SQLite says of it."""

    path: Path
    kept: Path
    why: str
    answers: int
    lost_sendings: int
    """Requests whose cost is not known any more."""


def require_sound(db: sqlite3.Connection) -> None:
    """sqlite3.DatabaseError for a database whose pages don't fit together: rows may be missing without an error."""
    (said,) = db.execute("pragma quick_check(1)").fetchone()
    if said != "ok":
        raise sqlite3.DatabaseError(said.splitlines()[-1])


def repair(path: Path, error: sqlite3.DatabaseError, schema: Sequence[str]) -> Repaired:
    """Put a journal of this `schema` with the rows that can be read in the place of the damaged one.

    Raises the `error` again if none can be read. `path` leads through no link, and nobody has the file open.
    """
    found = salvage(path)
    if not (found.answers or found.sendings):
        raise error
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    kept = path.with_name(f"{path.name}.damaged-{stamp}-{secrets.token_hex(4)}")
    with files.atomic_path(path) as temp:
        _write(temp, found, schema)
        _keep(path, kept)
        with contextlib.suppress(FileNotFoundError):  # the new file's would be read from it
            wal_of(path).rename(wal_of(kept))
    return Repaired(path, kept, str(error), len(found.answers), found.lost_sendings)


def _write(path: Path, found: Salvaged, schema: Sequence[str]) -> None:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db, transaction(db):
        for statement in schema:
            db.execute(statement)
        db.executemany(_INSERT_ANSWER, found.answers.values())
        db.executemany(_INSERT_NOTE, found.notes.items())
        db.executemany(_INSERT_SENDING, found.sendings.values())


def _keep(path: Path, kept: Path) -> None:
    """The file under a second name, so that it is never without one."""
    try:
        os.link(path, kept)
    except OSError:  # a file system without links
        import shutil

        shutil.copyfile(path, kept)
    files.fsync_folder(kept.parent)
