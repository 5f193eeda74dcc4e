"""What the teacher said, kept safe the moment it was said: one SQLite file, one row per answered request.

Shards are made from it and can be made again; it is only ever added to, so no answer is paid for twice.
`kill -9` loses what was in flight and nothing else; that, too, is known, because each sending is written down
before it happens. Each answer has a checksum: one that a disk spoilt is as good as none, and costs no other.
Knows requests by their keys alone.
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

import pyarrow as pa

from bitnet_core.errors import BitnetError

_ZSTD = pa.Codec("zstd", 9)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LENGTH_BYTES = 8
_LONGEST = 1 << 30
"""Bytes of a body; a length beyond it was spoilt."""
_DAMAGED = "damaged"
_VERSION = 1
"""Of the tables, as `pragma user_version` gives it."""
_SCHEMA = (
    """create table if not exists answers (
        key text primary key,
        status text not null,
        body blob not null,
        at real not null
    ) without rowid""",
    "create table if not exists notes (key text primary key, value text not null) without rowid",
    """create table if not exists sendings (
        id integer primary key,
        key text not null,
        prompt_tokens integer not null,
        completion_tokens integer not null,
        usd real not null,
        state text not null
    )""",
    "create index if not exists sendings_open on sendings (state) where state = 'open'",
)
_SINCE = (
    # 1: how often an answer was asked for in vain, and the CRC-32 of its body as it is stored
    (
        "alter table answers add column attempts integer not null default 1",
        "alter table answers add column crc integer",
    ),
)
"""What makes tables of each version from those of the one before."""


@dataclass(frozen=True)
class Entry:
    """An answer. `status` is "ok", or the code of why there is none to use; `body` is what the server sent."""

    status: str
    body: bytes


@dataclass(frozen=True)
class Standing:
    """Where a request stands: the status of its answer, in how many runs it was asked for, and when it came last."""

    status: str
    attempts: int
    at: float


@dataclass(frozen=True)
class Charge:
    """What a request costs, or at worst may cost."""

    prompt_tokens: int
    completion_tokens: int
    usd: float = 0.0
    beyond: tuple[int, int] = (0, 0)
    """What of a worst case's tokens, of prompt and completion, is there because earlier requests took more."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Spent:
    """What all sendings so far cost, or at worst may have cost."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


class Journal:
    """Safe for several threads of one process, which has it to itself; use as a context manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        """Answers found spoilt since this was opened; they count as not answered from then on."""
        self._lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._db = sqlite3.connect(path, timeout=30, check_same_thread=False, isolation_level=None)
            # Alone with the file, WAL needs no shared memory, which mounted drives don't have.
            self._db.execute("pragma locking_mode=exclusive")
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=full")
            self._upgrade()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._db.close()

    # -- answers -----------------------------------------------------------------------------------------

    def answered(self, key: str) -> bool:
        """Whether there is an answer to use; others are worth asking for again."""
        return self.get_status(key) == "ok"

    def get_status(self, key: str) -> str | None:
        """The status of an answer, without reading it; None where there is none."""
        standing = self.standing(key)
        return None if standing is None else standing.status

    def standing(self, key: str) -> Standing | None:
        """As `get_status`, with what else is known of the request."""
        with self._lock, self._explained():
            row = self._db.execute("select status, attempts, at from answers where key = ?", (key,)).fetchone()
        return None if row is None or row[0] == _DAMAGED else Standing(*row)

    def get(self, key: str) -> Entry | None:
        """An answer; None where there is none, and for one that was spoilt on the disk (see `damaged`)."""
        with self._lock, self._explained():
            row = self._db.execute("select status, body, crc from answers where key = ?", (key,)).fetchone()
        if row is None or row[0] == _DAMAGED:
            return None
        status, packed, checksum = row
        body = _unpacked(packed) if checksum is None or checksum == zlib.crc32(packed) else None
        if body is not None:
            return Entry(status, body)
        self.damaged += 1
        with self._lock, self._explained():
            self._db.execute("update answers set status = ?, attempts = 0 where key = ?", (_DAMAGED, key))
        return None

    def put(
        self,
        key: str,
        entry: Entry,
        sending: int | None = None,
        charge: Charge | None = None,
        note: tuple[str, str] | None = None,
    ) -> None:
        """Keep an answer, what it cost, and a note with them; all are on the disk when this returns.

        An answer that can be used is never replaced.
        """
        packed = _packed(entry.body)
        with self._lock, self._explained(), self._transaction():
            self._db.execute(
                "insert into answers (key, status, body, at, crc, attempts) values (?, ?, ?, ?, ?, 1) "
                "on conflict (key) do update set status = excluded.status, body = excluded.body, at = excluded.at, "
                "crc = excluded.crc, attempts = attempts + 1 where status <> 'ok'",
                (key, entry.status, packed, time.time(), zlib.crc32(packed)),
            )
            if sending is not None:
                self._settle(sending, "answered", charge, note)

    # -- sendings ----------------------------------------------------------------------------------------

    def sending(self, key: str, worst: Charge) -> int:
        """Write down that a request is about to be sent and what it may cost at worst; its number."""
        with self._lock, self._explained():
            done = self._db.execute(
                "insert into sendings (key, prompt_tokens, completion_tokens, usd, state) "
                "values (?, ?, ?, ?, 'open')",
                (key, worst.prompt_tokens, worst.completion_tokens, worst.usd),
            )
            return int(done.lastrowid or 0)

    def settle(
        self, sending: int, state: str, charge: Charge | None = None, note: tuple[str, str] | None = None
    ) -> None:
        """How a sending ended that brought no answer to keep; without a charge its worst case stays."""
        with self._lock, self._explained(), self._transaction():
            self._settle(sending, state, charge, note)

    def lost(self) -> int:
        """Close the sendings that a killed run left open: they may have been paid for, so they stay as they are."""
        with self._lock, self._explained():
            return self._db.execute("update sendings set state = 'lost' where state = 'open'").rowcount

    def spent(self) -> Spent:
        """What was sent, and not what found no connection ("unsent")."""
        with self._lock, self._explained():
            row = self._db.execute(
                "select total(state <> 'unsent'), total(prompt_tokens + completion_tokens), total(usd) from sendings"
            ).fetchone()
        return Spent(int(row[0]), int(row[1]), float(row[2]))

    def _settle(self, sending: int, state: str, charge: Charge | None, note: tuple[str, str] | None) -> None:
        if note is not None:
            self._db.execute("insert or replace into notes values (?, ?)", note)
        if charge is None:
            self._db.execute("update sendings set state = ? where id = ?", (state, sending))
        else:
            self._db.execute(
                "update sendings set state = ?, prompt_tokens = ?, completion_tokens = ?, usd = ? where id = ?",
                (state, charge.prompt_tokens, charge.completion_tokens, charge.usd, sending),
            )

    # -- notes -------------------------------------------------------------------------------------------

    def note(self, key: str) -> str | None:
        with self._lock, self._explained():
            row = self._db.execute("select value from notes where key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def write_note(self, key: str, value: str) -> None:
        with self._lock, self._explained():
            self._db.execute("insert or replace into notes values (?, ?)", (key, value))

    # ----------------------------------------------------------------------------------------------------

    def _upgrade(self) -> None:
        """Make the tables, or those of an earlier version into today's."""
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version > _VERSION:
            raise BitnetError(
                f"{self.path} was written by a newer version of bitnet-tui; update this one, or collect into another "
                "experiment."
            )
        with self._transaction():
            for statement in (*_SCHEMA, *(one for later in _SINCE[version:] for one in later)):
                self._db.execute(statement)
            self._db.execute(f"pragma user_version = {_VERSION}")

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("begin immediate")
        try:
            yield
            self._db.execute("commit")
        except BaseException:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("rollback")
            raise

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error):
                raise BitnetError(
                    f"The disk with {self.path} is full; free some space and start again (nothing kept is lost)."
                ) from error
            if "locked" in str(error):
                raise BitnetError(f"{self.path} is in use by another program; close it and start again.") from error
            raise BitnetError(f"{self.path} can't be used ({error}); check its folder's permissions.") from error
        except sqlite3.DatabaseError as error:
            raise BitnetError(
                f"{self.path} is damaged ({error}); keep it, and get back what is whole with `sqlite3 {self.path} "
                f".recover | sqlite3 {self.path}.new`, then put the new file in its place."
            ) from error


def _packed(body: bytes) -> bytes:
    """How a body is stored; the one way that bodies take into the file."""
    packed: bytes = _ZSTD.compress(body, asbytes=True)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + packed


def _unpacked(packed: bytes) -> bytes | None:
    """The body; None for one that can't be unpacked."""
    try:
        if packed[_LENGTH_BYTES : _LENGTH_BYTES + 4] == _ZSTD_MAGIC:
            size = int.from_bytes(packed[:_LENGTH_BYTES], "little")
            if size > _LONGEST:
                return None
            found: bytes = _ZSTD.decompress(packed[_LENGTH_BYTES:], size, asbytes=True)
            return found
        return zlib.decompress(packed)  # as the first versions kept them
    except (zlib.error, OSError, pa.ArrowException):
        return None
