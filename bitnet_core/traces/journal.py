"""What the teacher said, kept safe the moment it was said: one SQLite file, one row per answered request.

Shards are made from it and can be made again; it is only ever added to, so no answer is paid for twice.
`kill -9` loses what was in flight and nothing else. Knows requests by their keys alone.
"""

import contextlib
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bitnet_core.errors import BitnetError

JOURNAL_FILE = "journal.sqlite"

_SCHEMA = """
create table if not exists answers (
    key text primary key,
    status text not null,
    body blob not null,
    at real not null
) without rowid;
create table if not exists notes (key text primary key, value text not null) without rowid;
create table if not exists sent (key text primary key, times integer not null) without rowid;
"""


@dataclass(frozen=True)
class Entry:
    """An answer. `status` is "ok", or the code of why there is none to use; `body` is what the server sent."""

    status: str
    body: bytes


class Journal:
    """Safe for several threads of one process; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            # A rollback journal, not WAL: WAL's shared memory does not work on mounted drives.
            self._db.execute("pragma journal_mode=truncate")
            self._db.execute("pragma synchronous=full")
            self._db.executescript(_SCHEMA)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._db.close()

    def keys(self) -> set[str]:
        """Keys of all requests with an answer to use; the others are worth asking again."""
        with self._lock, self._explained():
            return {row[0] for row in self._db.execute("select key from answers where status = 'ok'")}

    def get(self, key: str) -> Entry | None:
        with self._lock, self._explained():
            row = self._db.execute("select status, body from answers where key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            return Entry(row[0], zlib.decompress(row[1]))
        except zlib.error as error:
            raise self._damaged() from error

    def put(self, key: str, entry: Entry) -> None:
        """Keep an answer; it is on the disk when this returns. One that can be used is never replaced."""
        packed = zlib.compress(entry.body)
        with self._lock, self._explained():
            self._db.execute(
                "insert into answers values (?, ?, ?, ?) on conflict (key) do update set "
                "status = excluded.status, body = excluded.body, at = excluded.at where status <> 'ok'",
                (key, entry.status, packed, time.time()),
            )

    def sending(self, key: str) -> int:
        """Count that a request is about to be sent; the number of times so far, this one included."""
        with self._lock, self._explained():
            self._db.execute(
                "insert into sent values (?, 1) on conflict (key) do update set times = times + 1", (key,)
            )
            return int(self._db.execute("select times from sent where key = ?", (key,)).fetchone()[0])

    def note(self, key: str) -> str | None:
        with self._lock, self._explained():
            row = self._db.execute("select value from notes where key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def write_note(self, key: str, value: str) -> None:
        with self._lock, self._explained():
            self._db.execute("insert or replace into notes values (?, ?)", (key, value))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise BitnetError(
                    f"The disk with {self.path} is full; free some space and start again (nothing kept is lost)."
                ) from error
            raise BitnetError(f"{self.path} can't be used ({error}); check its folder's permissions.") from error
        except sqlite3.DatabaseError as error:
            raise self._damaged() from error

    def _damaged(self) -> BitnetError:
        return BitnetError(f"{self.path} is damaged; move it away and run `bitnet collect` again.")
