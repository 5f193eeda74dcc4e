"""The journal's SQLite file: opening it, locking it, copying what can still be read, taking a copy in.

A copy is a whole journal beside the journal, named `journal.copy-….sqlite`: what a run could save when its journal
was removed, or the journal of an earlier version that was used again. The next run takes it in and removes it.
"""

import contextlib
import ctypes
import errno
import fcntl
import secrets
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.files.database_faults import database_fix

_COPY = "journal.copy-"
_SQLITE_LOCKS = 512, 0x40000000
"""How many bytes of a database SQLite locks, and where; each of its users holds some of them."""
_TABLES = ("answers", "notes", "sendings")
ID_NOTE = "journal"
"""The note with a journal's random name; copies have the name of their original."""

_TAKE_ANSWERS = """
    insert into answers (key, status, body, at, crc, attempts)
    select key, status, body, at, crc, attempts from taken.answers where true
    on conflict (key) do update set status = excluded.status, body = excluded.body, at = excluded.at,
    crc = excluded.crc, attempts = max(attempts, excluded.attempts)
    where status <> 'ok' and (excluded.status = 'ok' or excluded.at > at)
"""
SPENT = """
    select total(state <> 'unsent'), total(prompt_tokens + completion_tokens), total(usd),
    -total('blob' in (t, c, u) or 'text' in (t, c, u))
    from (select *, typeof(prompt_tokens) t, typeof(completion_tokens) c, typeof(usd) u from sendings)
"""
"""Requests, tokens and dollars of all requests sent. The last is below 0 if a cost is not a number, which adds 0."""
_COLUMNS = "key, prompt_tokens, completion_tokens, usd, state"
_TAKE_SENDINGS_OF_ANOTHER = f"insert into sendings ({_COLUMNS}) select {_COLUMNS} from taken.sendings"  # noqa: S608
_TAKE_SENDINGS_OF_A_COPY = (
    """update sendings set (prompt_tokens, completion_tokens, usd, state) =
        (select prompt_tokens, completion_tokens, usd, state from taken.sendings t where t.id = sendings.id)
        where state in ('open', 'lost')
        and exists (select 1 from taken.sendings t where t.id = sendings.id and t.key = sendings.key)""",
    f"""insert into sendings (id, {_COLUMNS})
        select id, {_COLUMNS} from taken.sendings where id not in (select id from sendings)""",  # noqa: S608
    f"""insert into sendings ({_COLUMNS})
        select {_COLUMNS} from taken.sendings t
        where key <> (select key from sendings where sendings.id = t.id)""",  # noqa: S608
)


def connect(path: Path, stack: contextlib.ExitStack, mode: str = "rwc") -> tuple[sqlite3.Connection, bool]:
    """Open a journal's file for this connection alone; `stack` closes it. Also returns whether record locks work."""
    _make_own(path)
    lockable = _has_record_locks(path.parent)
    if not lockable:
        stack.enter_context(files.locked(path.with_name(f".{path.name}.lock"), on_wait=_refuse(path)))
    address = f"file:{quote(str(path))}?mode={mode}" + ("" if lockable else "&vfs=unix-none")
    db = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False, isolation_level=None)
    stack.callback(db.close)
    # With an exclusive lock, WAL needs no shared memory, which mounted drives don't have.
    db.execute("pragma locking_mode=exclusive")
    db.execute("pragma journal_mode=wal")
    db.execute("pragma synchronous=full")
    return db, lockable


def require_own_tables(db: sqlite3.Connection, path: Path) -> None:
    """BitnetError for a database of another program: a journal's tables would be added to it."""
    names = {name for (name,) in db.execute("select name from sqlite_master where type = 'table'")}
    if names and names.isdisjoint(_TABLES):
        raise BitnetError(f"{path} is a database of another program; move it away.")


def _make_own(path: Path) -> None:
    """Give a journal that has a second name, as `cp -al` makes one, a file of its own.

    SQLite keeps a WAL for each name: under one of them it would write the pages of the other's anew.
    """
    shared = [one for one in (path, wal_of(path)) if one.is_file() and one.stat().st_nlink > 1]
    if not shared:
        return
    with path.open("r+b") as held:
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB, *_SQLITE_LOCKS)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                _refuse(path)()
        for one in shared:
            with files.atomic_path(one) as copy:
                shutil.copyfile(one, copy)


def _refuse(path: Path) -> Callable[[], None]:
    def refuse() -> None:
        raise BitnetError(f"{path} is in use by another program; close it and start again.")

    return refuse


def _has_record_locks(folder: Path) -> bool:
    """Whether SQLite can lock files in a folder. For file systems that can't, it may say "locked" for ever."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder) as probe:
        try:
            fcntl.lockf(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN)
    return True  # or nothing can be written there, as SQLite will say


def require_no_broken_link(path: Path) -> None:
    """BitnetError if the journal or its folder is a link to nothing: the answers may be where it should lead."""
    for one in (path.parent, path):
        if _is_broken(one):
            raise BitnetError(
                f"{one} is a link to {one.readlink()}, which is not there; mount or restore that, or remove the link "
                "to begin a new journal."
            )


def _is_broken(link: Path) -> bool:
    return link.is_symlink() and not link.exists()


def wal_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def leave_open(db: sqlite3.Connection) -> None:
    """Never close a connection: closing deletes the WAL by its path, where another journal's may be by now."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(db))


# -- copies ----------------------------------------------------------------------------------------------


def copies(*paths: Path) -> list[Path]:
    """The copies beside journals, each once."""
    return sorted({copy for path in paths for copy in path.parent.resolve().glob(f"{_COPY}*.sqlite")})


def new_copy(folder: Path) -> Path:
    """A path for a copy of a journal."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return folder / f"{_COPY}{stamp}-{secrets.token_hex(4)}.sqlite"


def write_copy(db: sqlite3.Connection, path: Path) -> None:
    """Write everything that an open journal can still read to a new file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as target:
        try:
            db.backup(target)
        except sqlite3.DatabaseError:
            _copy_rows(db, target)


def _copy_rows(db: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Copy row by row from both ends of each table, up to what can't be read."""
    for (statement,) in db.execute("select sql from sqlite_master where sql is not null").fetchall():
        with contextlib.suppress(sqlite3.OperationalError):  # it is there already
            target.execute(statement)
    (version,) = db.execute("pragma user_version").fetchone()
    target.execute(f"pragma user_version = {int(version)}")
    for table in _TABLES:
        for order in ("asc", "desc"):
            with contextlib.suppress(sqlite3.DatabaseError):
                for row in db.execute(f"select * from {table} order by 1 {order}"):  # noqa: S608
                    marks = ", ".join("?" * len(row))
                    target.execute(f"insert or ignore into {table} values ({marks})", row)  # noqa: S608


def take_in(db: sqlite3.Connection, path: Path) -> None:
    """Add the rows of the copy at `path` to an open journal, once, and remove the copy.

    A usable answer is never replaced. Each request sent counts once if the copy is of this journal, else all count.
    """
    done = f"taken:{path.name}"
    if db.execute("select 1 from notes where key = ?", (done,)).fetchone() is None:
        db.execute("attach ? as taken", (str(path),))
        try:
            with transaction(db):
                (same,) = db.execute(
                    "select exists (select 1 from notes join taken.notes theirs using (key, value) where key = ?)",
                    (ID_NOTE,),
                ).fetchone()
                db.execute(_TAKE_ANSWERS)
                for statement in _TAKE_SENDINGS_OF_A_COPY if same else (_TAKE_SENDINGS_OF_ANOTHER,):
                    db.execute(statement)
                db.execute("insert or ignore into notes select key, value from taken.notes where true")
                db.execute("insert or replace into notes values (?, '')", (done,))
        finally:
            db.execute("detach taken")
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    db.execute("begin immediate")
    try:
        yield
        db.execute("commit")
    except BaseException:
        if db.in_transaction:  # a full disk has already ended it
            db.execute("rollback")
        raise


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as a BitnetError that names the file and the fix."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise BitnetError(
                f"The disk with {path} is full; free some space and start again (stored answers are safe)."
            ) from error
        if "locked" in str(error):
            raise BitnetError(f"{path} is in use by another program; close it and start again.") from error
        beside = (path.with_name(f"{path.name}{end}") for end in ("", "-wal", "-shm", "-journal"))
        if odd := next((one for one in beside if one.exists() and not one.is_file()), None):
            raise BitnetError(f"{odd} is in the place of a file of the journal; move it away.") from error
        if error.sqlite_errorcode == sqlite3.SQLITE_ERROR:  # a statement does not fit what is there
            raise BitnetError(
                f"The tables of {path} are not those of a journal ({error}); restore a backup, or move it away."
            ) from error
        raise BitnetError(f"{path} can't be used ({error}); {database_fix(error)}.") from error
    except sqlite3.DatabaseError as error:
        raise BitnetError(
            f"{path} is damaged ({error}); keep it, and recover the intact rows with `sqlite3 {path} "
            f".recover | sqlite3 {path}.new`, then put the new file in its place."
        ) from error


# -- several places --------------------------------------------------------------------------------------


def gather(possible: Sequence[Path], old: Path) -> Path:
    """Choose a trace set's journal: the first there is, else `possible[0]`.

    One at the `old` place is moved to `possible[0]`, unless it is a link. Any other becomes a copy beside itself.
    """
    there = [path for path in (*possible, old) if _is_there(path)]
    for path in there:
        require_no_broken_link(path)
    found = there[0] if there else possible[0]
    for other in there[1:]:
        if not other.samefile(found):
            with explained(other):
                move(other, new_copy(other.parent))
    if found == old and not old.is_symlink():
        try:
            with explained(old):
                move(old, possible[0])
        except OSError:
            if not old.exists():
                raise
            return old  # where it can't be moved it stays
        return possible[0]
    return found


def _is_there(path: Path) -> bool:
    return path.exists() or path.is_symlink() or _is_broken(path.parent)


def move(old: Path, path: Path) -> None:
    """Move a journal to `path`.

    It is locked meanwhile: a run that has it open is not disturbed. It is complete in one of the two places at every
    moment.
    """
    with contextlib.ExitStack() as stack:
        db, _ = connect(old.resolve(), stack, "rw")
        db.execute("pragma journal_mode=delete")  # everything in one file
        db.execute("begin exclusive")
        db.execute("commit")
        path.parent.mkdir(parents=True, exist_ok=True)
        old.rename(path)
        files.fsync_folder(path.parent)
        files.fsync_folder(old.parent)
