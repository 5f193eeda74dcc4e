"""The journal of a collection: one SQLite file that stores every answer as soon as it arrives.

Shards are made from the journal and can be made from it again. Usable answers are never replaced, so none is paid for
twice. Each request is written down before it is sent: `kill -9` loses only the requests in flight, and the next run
knows which they were. Each answer has a checksum, so that a damaged one is found and costs no other.
This module knows requests only by their keys.
"""

import contextlib
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bitnet_core.collecting import bodies, journal_file, journal_repair
from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.runs.presence import CUT, GoneWithCopy, Presence
from bitnet_core.traces import places

T = TypeVar("T")

_MOST_SPENT = 1e15
"""Requests, tokens or dollars: no limit would hold if they could be endless or less than nothing."""
MANY_TOKENS = 1 << 16
"""No count of a request below this is absurd."""
_DAMAGED = "damaged"
_VERSION = 1
"""Version of the tables, stored as `pragma user_version`."""
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
_TO_VERSION_1 = (
    "alter table answers add column attempts integer not null default 1",
    "alter table answers add column crc integer",
)
"""Adds how many runs asked for the answer, and the CRC-32 of its stored body."""
_SET_VERSION = f"pragma user_version = {_VERSION}"

Note = tuple[str, str]
"""The name of a note and its text."""


@dataclass(frozen=True)
class StoredAnswer:
    """An answer. `status` is "ok" or the code of why it can't be used; `body` is what the server sent."""

    status: str
    body: bytes


@dataclass(frozen=True)
class Standing:
    """The state of a request: the status of its answer, and how many runs asked for it."""

    status: str
    attempts: int


@dataclass(frozen=True)
class Charge:
    """What a request costs, or may cost at most."""

    prompt_tokens: int
    completion_tokens: int
    usd: float = 0.0
    overrun: tuple[int, int] = (0, 0)
    """In a worst case: the prompt and completion tokens added because earlier requests exceeded theirs."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True)
class Spent:
    """What all requests sent so far have cost, or may have cost at most."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


class Journal:
    """An open journal. Use it as a context manager; safe for several threads of one process, which locks the file.

    When its file is removed or replaced, everything in it is written to a copy beside it; each further call stores
    there, and raises `Gone`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        """Damaged answers found since the journal was opened; they count as not answered."""
        self.taken_in: list[Path] = []
        """The copies whose answers were taken in when the journal was opened."""
        self.repaired: list[journal_repair.Repaired] = []
        """Of the journal and these copies, those that were damaged when they were opened."""
        self._lock = threading.Lock()
        self._gone: GoneWithCopy | None = None
        self._open(path)

    @classmethod
    def of(cls, data_dir: Path) -> "Journal":
        """The journal of a trace set, wherever it is.

        That of an earlier version is moved from its old place. Other journals of the trace set, and the copies beside
        any of them, are taken in.
        """
        old, possible = places.old_journal(data_dir), places.journals(data_dir)
        journal = cls(journal_file.gather(possible, old))
        try:
            for copy in journal_file.copies(*possible, old):
                journal._take_in(copy)
        except BaseException:
            journal._stack.close()
            raise
        return journal

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            try:
                self._save_if_lost()
                if self._gone is not None and (kind is None or issubclass(kind, (BitnetError, OSError))):
                    raise self._gone
            finally:
                self._stack.close()

    # -- answers -----------------------------------------------------------------------------------------

    def get_status(self, key: str) -> str | None:
        """The status of an answer, without its body; None if there is no answer."""
        standing = self.standing(key)
        return None if standing is None else standing.status

    def standing(self, key: str) -> Standing | None:
        """The state of a request, without the answer's body; None if there is no answer."""
        with self._lock, self._explain_errors():
            row = self._db.execute("select status, attempts from answers where key = ?", (key,)).fetchone()
        return None if row is None or row[0] == _DAMAGED else Standing(*row)

    def is_empty(self) -> bool:
        """Whether no request was ever answered or sent."""
        with self._lock, self._explain_errors():
            return not any(self._db.execute(f"select 1 from {table}").fetchone() for table in ("answers", "sendings"))  # noqa: S608

    def get(self, key: str) -> StoredAnswer | None:
        """An answer; None if there is none or if it is damaged (counted in `damaged`)."""
        with self._lock, self._explain_errors():
            row = self._db.execute(
                "select status, cast(body as blob), crc from answers where key = ?", (key,)
            ).fetchone()
        if row is None or row[0] == _DAMAGED:
            return None
        status, packed, checksum = row
        body = bodies.unpack(packed) if checksum is None or checksum == zlib.crc32(packed) else None
        if body is not None:
            return StoredAnswer(status, body)
        self.damaged += 1
        self._write("update answers set status = ?, attempts = 0 where key = ?", (_DAMAGED, key))
        return None

    def put(
        self,
        key: str,
        entry: StoredAnswer,
        sent: int | None = None,
        charge: Charge | None = None,
        note: Note | None = None,
    ) -> None:
        """Store an answer, and in the same transaction close the request `sent` with its charge and a note.

        Everything is on disk when this returns. A usable answer is never replaced.
        """
        packed = bodies.pack(entry.body)
        row = key, entry.status, packed, time.time(), zlib.crc32(packed)

        def store() -> None:
            self._db.execute(
                "insert into answers (key, status, body, at, crc, attempts) values (?, ?, ?, ?, ?, 1) "
                "on conflict (key) do update set status = excluded.status, body = excluded.body, at = excluded.at, "
                "crc = excluded.crc, attempts = attempts + 1 where status <> 'ok'",
                row,
            )
            if sent is not None:
                self._close_sent(sent, "answered", charge, note)

        self._commit(store)

    # -- requests sent -----------------------------------------------------------------------------------

    def record_sent(self, key: str, worst: Charge) -> int:
        """Write down that a request is about to be sent and what it may cost at most; returns its number."""
        with self._lock:
            self._require_present()  # before it counts as sent
        done = self._write(
            "insert into sendings (key, prompt_tokens, completion_tokens, usd, state) values (?, ?, ?, ?, 'open')",
            (key, worst.prompt_tokens, worst.completion_tokens, worst.usd),
        )
        return int(done.lastrowid or 0)

    def close_sent(self, sent: int, state: str, charge: Charge | None = None, note: Note | None = None) -> None:
        """Close a request that brought no answer to store. Without a charge its worst case still counts."""
        self._commit(lambda: self._close_sent(sent, state, charge, note))

    def close_lost(self) -> int:
        """Close the requests that a killed run left open and count them. They may be billed: worst cases count."""
        return self._write("update sendings set state = 'lost' where state = 'open'").rowcount

    def spent(self) -> Spent:
        """The sum over all requests sent; those that found no connection ("unsent") don't count as requests."""
        with self._lock, self._explain_errors():
            row = self._db.execute(journal_file.SPENT).fetchone()
        if not all(0 <= one < _MOST_SPENT for one in row):
            raise BitnetError(f"{self.path} is damaged: it counts impossible costs; restore it from a backup.")
        return Spent(int(row[0]), int(row[1]), float(row[2]))

    def charged(self) -> list[tuple[int, str, Charge]]:
        """The number, the key and the charge of each request of more than `MANY_TOKENS`."""
        with self._lock, self._explain_errors():
            rows = self._db.execute(
                "select id, key, prompt_tokens, completion_tokens, usd from sendings "
                "where prompt_tokens + completion_tokens > ?",
                (MANY_TOKENS,),
            ).fetchall()
        return [(sent, key, Charge(prompt, completion, usd)) for sent, key, prompt, completion, usd in rows]

    def _close_sent(self, sent: int, state: str, charge: Charge | None, note: Note | None) -> None:
        if note is not None:
            self._db.execute("insert or replace into notes values (?, ?)", note)
        if charge is None:
            self._db.execute("update sendings set state = ? where id = ?", (state, sent))
        else:
            self._db.execute(
                "update sendings set state = ?, prompt_tokens = ?, completion_tokens = ?, usd = ? where id = ?",
                (state, charge.prompt_tokens, charge.completion_tokens, charge.usd, sent),
            )

    # -- notes -------------------------------------------------------------------------------------------

    def read_note(self, key: str) -> str | None:
        with self._lock, self._explain_errors():
            row = self._db.execute("select value from notes where key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def write_note(self, key: str, value: str) -> None:
        self._write("insert or replace into notes values (?, ?)", (key, value))

    # -- the file ----------------------------------------------------------------------------------------

    def _upgrade(self) -> None:
        """Create the tables, or migrate those of an earlier version."""
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version > _VERSION:
            raise BitnetError(
                f"{self.path} was written by a newer version of bitnet-tui; update this one, or collect into another "
                "experiment."
            )
        journal_file.require_own_tables(self._db, self.path)
        journal_repair.require_sound(self._db)
        with journal_file.transaction(self._db):
            for statement in _SCHEMA + _TO_VERSION_1 if version < 1 else _SCHEMA:
                self._db.execute(statement)
            name = (journal_file.ID_NOTE, secrets.token_hex(16))
            self._db.execute("insert or ignore into notes values (?, ?)", name)
            self._db.execute(_SET_VERSION)

    def _open(self, path: Path) -> None:
        journal_file.require_no_broken_link(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        real = path.resolve()  # SQLite's WAL is beside the file that links lead to
        with journal_file.explained(path):
            try:
                self._open_file(path, real)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as error:
                schema = (*_SCHEMA, *_TO_VERSION_1, _SET_VERSION)
                self.repaired.append(journal_repair.repair(real, error, schema))
                self._open_file(path, real)

    def _open_file(self, path: Path, real: Path) -> None:
        with contextlib.ExitStack() as stack:
            self._db, self.has_record_locks = journal_file.connect(real, stack)
            self._upgrade()
            self._presence, self._wal_presence = Presence("collect"), Presence("collect")
            self._presence.watch(path, held=True, grows=True)
            self._wal_presence.watch(journal_file.wal_of(real), held=True, grows=True)
            self.path, self._stack = path, stack.pop_all()

    def _take_in(self, copy: Path) -> None:
        opened = Journal(copy)  # an earlier version's copy is migrated
        opened._stack.close()
        self.repaired += opened.repaired
        with self._explain_errors():
            journal_file.take_in(self._db, copy)
        self.taken_in.append(copy)

    def _write(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        return self._commit(lambda: self._db.execute(statement, values))

    def _commit(self, work: Callable[[], T]) -> T:
        """Do `work` in one transaction, in the copy if the journal is gone; then Gone is raised, with all stored."""
        with self._lock, self._explain_errors():
            self._save_if_lost()  # after a write into a file that was cut, it would have its old size
            try:
                with journal_file.transaction(self._db):
                    result = work()
            except sqlite3.DatabaseError:
                if self._gone or not (lost := self._lost()):
                    raise
                self._continue_in_a_copy(lost)
                with journal_file.transaction(self._db):
                    result = work()
            self._require_present()
        return result

    def _require_present(self) -> None:
        self._save_if_lost()
        if self._gone is not None:
            raise self._gone

    def _save_if_lost(self) -> None:
        if self._gone is None and (lost := self._lost()):
            self._continue_in_a_copy(lost)

    def _lost(self) -> str:
        return self._presence.lost() or self._wal_presence.lost()

    def _continue_in_a_copy(self, why: str) -> None:
        """Save what the open file still gives, and write to the copy from now on. Sets `_gone`."""
        lost, db, stack = self.path, self._db, self._stack
        # Closing writes the WAL into the file, which is right only for one that lost nothing but the WAL's name.
        closable = not self._presence.lost() and not os.path.lexists(journal_file.wal_of(lost.resolve()))
        choices: list[Callable[[], Path]] = [lambda: lost.parent, lambda: cache_folder() / "journals"]
        for place in choices:
            copy = lost
            try:
                copy = journal_file.new_copy(folder := place())
                journal_file.write_copy(db, copy)
                self._open(copy)
            except (OSError, sqlite3.Error, BitnetError) as error:
                failure = error
                with contextlib.suppress(OSError):
                    if copy != lost:  # half a copy is not one
                        copy.unlink(missing_ok=True)
                continue
            if not closable:
                journal_file.leave_open(db)
                stack.pop_all()
            stack.close()
            fix = "`bitnet collect` continues from there"
            if folder != lost.parent:
                fix = f"move it into {lost.parent}, and {fix}"
            saved = "what is still readable of its answers is" if CUT in why else "all its answers are"
            self._gone = GoneWithCopy(f"{why}; {saved} in {copy}: {fix}.")
            return
        self._gone = GoneWithCopy(f"{why}, and its answers can't be saved ({failure}); restore {lost} from a backup.")

    def _explain_errors(self) -> contextlib.AbstractContextManager[None]:
        return journal_file.explained(self.path)
