"""What this machine knows of a copy: hashes of local files, parts that have arrived, and the last manifest it saw.

A cache and a queue on disk. Nothing is lost with it but time: it is made again from the files and the target.
"""

import contextlib
import hashlib
import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files import half_written
from bitnet_core.files.database_faults import database_fix
from bitnet_core.files.writable import writing
from bitnet_core.runs import clock
from bitnet_core.storage.layout import Known, Stored
from bitnet_core.storage.steps import step_of

FOLDER = ".storage"
"""What an experiment's folder keeps of its copy; it is never stored itself."""
CLOCK = "clock"
"""The note of what the wall clock said when the times of what waits were written."""
_SCHEMA = """
create table if not exists notes (name text primary key, value text not null);
create table if not exists hashes (name text primary key, version text not null, sha256 text not null,
    part_bytes integer not null);
create table if not exists parts (stem text not null, number integer not null, version text not null,
    sha256 text not null, primary key (stem, number));
create table if not exists waiting (name text primary key, version text not null, since real not null);
create table if not exists shared (name text primary key, size integer not null, sha256 text not null,
    part_bytes integer not null);
"""
_TABLES = ("notes", "hashes", "parts", "waiting", "shared")


class Busy(UsageError):
    """Another push or pull of the experiment is going on."""


class State:
    """The state of one experiment's copy on one target. Used by one thread."""

    def __init__(self, path: Path) -> None:
        """sqlite3.Error if it can't be opened, or is damaged."""
        self._path = path
        self._db = sqlite3.connect(path, timeout=30, isolation_level=None)
        self._db.execute("pragma journal_mode=wal")
        self._db.execute("pragma synchronous=normal")
        self._db.executescript(_SCHEMA)
        self._db.execute("select * from waiting").fetchall()

    def close(self) -> None:
        self._db.close()

    def copy_from(self, other: sqlite3.Connection) -> None:
        """Take over what another state holds."""
        there = {row[0] for row in other.execute("select name from sqlite_master")}
        for table in there.intersection(_TABLES):  # an earlier version's has fewer
            rows = other.execute(f"select * from {table}").fetchall()  # noqa: S608 - one of five names
            if not rows:
                continue
            marks = ", ".join("?" * len(rows[0]))
            self._db.executemany(f"insert into {table} values ({marks})", rows)  # noqa: S608

    # -- notes -------------------------------------------------------------------------------------------

    def note(self, name: str) -> str:
        """A remembered text; empty if there is none."""
        row = self._run("select value from notes where name = ?", [name]).fetchone()
        return str(row[0]) if row else ""

    def remember(self, name: str, value: str) -> None:
        self._run("insert or replace into notes values (?, ?)", [name, value])

    def belong_to(self, root: Path) -> None:
        """Bind it to the experiment's folder: a copy of that folder is another writer."""
        try:
            status = root.stat()
        except OSError as error:
            raise BitnetError(f"{root} can't be read {explained(error, 'check its permissions')}.") from error
        folder = f"{status.st_dev}:{status.st_ino}:{root.resolve()}"
        if self.note("folder") != folder:
            with self._transaction():
                self._run("delete from notes where name = 'writer'")
                self._run("delete from parts")
                self.remember("folder", folder)

    def note_stored(self, counter: int, entries: Iterable[Stored]) -> None:
        """Note for people what is stored, now: how many files and bytes of each folder."""
        folders: dict[str, list[int]] = {}
        for one in entries:
            found = folders.setdefault(one.name.partition("/")[0], [0, 0])
            found[0] += 1
            found[1] += one.size
        self.remember("stored", json.dumps({"at": time.time(), "counter": counter, "folders": folders}))

    @property
    def writer(self) -> str:
        """A random name of this folder, which no copy of it has."""
        if not self.note("writer"):
            self.remember("writer", secrets.token_hex(4))
        return self.note("writer")

    # -- hashes ------------------------------------------------------------------------------------------

    def known(self, name: str, version: str) -> Known | None:
        """The hash of this version of a file, if it was made before."""
        row = self._run(
            "select sha256, part_bytes from hashes where name = ? and version = ?", [name, version]
        ).fetchone()
        return Known(*row) if row else None

    def know(self, name: str, version: str, known: Known) -> None:
        self._run(
            "insert or replace into hashes values (?, ?, ?, ?)", [name, version, known.sha256, known.part_bytes]
        )

    def forget(self, name: str) -> None:
        """Forget the hashes of a file: the next push reads it."""
        self._run("delete from hashes where name = ?", [name])

    def seen(self) -> set[str]:
        """The files that this machine had at some time."""
        return {row[0] for row in self._run("select name from hashes")}

    # -- shared ------------------------------------------------------------------------------------------

    def share(self, entries: Iterable[Stored]) -> None:
        """Note that these files are here as they are stored: what is still so was not changed here."""
        with self._transaction():
            self._run_many(
                "insert or replace into shared values (?, ?, ?, ?)",
                ((one.name, one.size, one.sha256, one.part_bytes) for one in entries),
            )

    def shared(self, name: str) -> tuple[int, Known] | None:
        """The size and the hash of a file when it was last stored or brought from here; None if it never was."""
        row = self._run("select size, sha256, part_bytes from shared where name = ?", [name]).fetchone()
        return (row[0], Known(row[1], row[2])) if row else None

    def shared_names(self) -> set[str]:
        return {row[0] for row in self._run("select name from shared")}

    def unshare(self, names: Iterable[str]) -> None:
        """Note that these files have left the state: what is here under such a name is this machine's own."""
        with self._transaction():
            self._run_many("delete from shared where name = ?", ([name] for name in names))

    # -- parts -------------------------------------------------------------------------------------------

    def arrived(self, stem: str, version: str) -> dict[int, str]:
        """The parts of this version of a file that have arrived under a stem: their hashes by number."""
        rows = self._run("select number, sha256 from parts where stem = ? and version = ?", [stem, version])
        return dict(rows.fetchall())

    def attempts(self, name: str, version: str) -> list[str]:
        """The stems under which something of this version of a file has arrived: its name, and its revisions."""
        own = f"{name}.revisions/"
        rows = self._run(
            "select distinct stem from parts where version = ? and (stem = ? or substr(stem, 1, ?) = ?)",
            [version, name, len(own), own],
        )
        return [row[0] for row in rows.fetchall()]

    def arrivals(self) -> list[tuple[str, str]]:
        """Stem and version of each file of which parts have arrived that no manifest names yet."""
        return self._run("select distinct stem, version from parts").fetchall()

    def has_arrivals(self) -> bool:
        """Whether something has arrived that no manifest names yet, as after a push that was cut."""
        return self._run("select 1 from parts limit 1").fetchone() is not None

    def arrive(self, stem: str, number: int, version: str, sha256: str) -> None:
        self._run("insert or replace into parts values (?, ?, ?, ?)", [stem, number, version, sha256])

    def forget_parts(self) -> None:
        """Forget what has arrived: a manifest names it now."""
        self._run("delete from parts")

    # -- waiting -----------------------------------------------------------------------------------------

    def wait(self, names: Iterable[tuple[str, str]]) -> None:
        """Queue these versions of files, and no others. One that waits already keeps its time.

        So does a checkpoint that never arrived, in the newer one that is sent in its place.
        """
        wanted, now, since = dict(names), time.time(), self.waiting()
        in_vain = min(
            (at for name, at in since.items() if name not in wanted and step_of(name) is not None), default=now
        )
        with self._transaction():
            self._run("delete from waiting")
            rows = [
                (name, version, since.get(name, in_vain if step_of(name) is not None else now))
                for name, version in wanted.items()
            ]
            self._run_many("insert into waiting values (?, ?, ?)", rows)
            self.remember(CLOCK, clock.reading())

    def stop_waiting(self, name: str) -> None:
        self._run("delete from waiting where name = ?", [name])

    def waiting(self) -> dict[str, float]:
        """The files that wait to be sent, and since when, in Unix seconds by the clock as it is set now."""
        forward = clock.put_forward_since(self.note(CLOCK))
        return {name: since + forward for name, since in self._run("select name, since from waiting").fetchall()}

    def _run(self, statement: str, values: Iterable[object] = ()) -> sqlite3.Cursor:
        with self._failures_explained():
            return self._db.execute(statement, [*values])

    def _run_many(self, statement: str, rows: Iterable[Iterable[object]]) -> None:
        with self._failures_explained():
            self._db.executemany(statement, [[*row] for row in rows])

    @contextlib.contextmanager
    def _failures_explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise BitnetError(f"{self._path} can't be used ({error}); {database_fix(error)}.") from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("begin immediate")
        try:
            yield
        except BaseException:
            with contextlib.suppress(BitnetError):  # SQLite has done it where the disk is full
                self._run("rollback")
            raise
        self._run("commit")


@contextlib.contextmanager
def opened(root: Path, place: str, mark: str = "") -> Iterator[State]:
    """The state of the copy at `place`, in the experiment's folder. A damaged one is set aside, and a new one begun.

    `mark` (`target_mark`) is kept with it: by that `copy_status` finds it without asking the target.
    """
    path = _path(root, place)
    folder = path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        half_written.remove_leftovers(folder)
        try:
            state = State(path)
        except sqlite3.OperationalError:  # a full disk, or a lock: it is not damaged
            raise
        except sqlite3.DatabaseError:
            path.replace(path.with_suffix(".damaged"))
            for log in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
                log.unlink(missing_ok=True)
            state = State(path)
    except (OSError, sqlite3.Error) as error:
        of_call = explained(error, "free space there") if isinstance(error, OSError) else ""
        why = of_call or f"({error}); {database_fix(error)}"
        raise BitnetError(f"{folder} can't be written {why}.") from error
    with contextlib.closing(state):
        state.belong_to(root)
        if state.note("place") != place:
            state.remember("place", place)
        if mark and state.note("mark") != mark:
            state.remember("mark", mark)
        yield state


@contextlib.contextmanager
def looked_at(root: Path, place: str) -> Iterator[State]:
    """A copy of the state in memory: what is noted in it is forgotten, and nothing is written."""
    with contextlib.closing(State(Path(":memory:"))) as state:
        path = _path(root, place)
        with contextlib.suppress(sqlite3.Error), contextlib.ExitStack() as stack:
            # Immutable, so that SQLite makes no files beside it. What is only in its log is missed, which costs time.
            uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
            state.copy_from(stack.enter_context(contextlib.closing(sqlite3.connect(uri, uri=True))))
            state.belong_to(root)
        yield state


@contextlib.contextmanager
def work_folder(root: Path) -> Iterator[Path]:
    """An empty folder for copies. What a killed push left in it, such as a copy of a large journal, goes first."""
    folder = lock_path(root).with_name("work")
    shutil.rmtree(folder, ignore_errors=True)
    with writes_explained(root):
        folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def writes_explained(root: Path) -> Iterator[None]:
    """BitnetError where the folder of an experiment's copies can't be written."""
    folder = lock_path(root).parent
    with writing(folder, "check its permissions"):
        yield


def lock_path(root: Path) -> Path:
    """The lock that one push or pull of an experiment at a time holds."""
    return root / FOLDER / "lock"


def _path(root: Path, place: str) -> Path:
    return root / FOLDER / f"{hashlib.sha256(place.encode()).hexdigest()[:16]}.sqlite"


@contextlib.contextmanager
def exclusive(root: Path) -> Iterator[None]:
    """One push or pull of an experiment at a time. Busy if another one is going on."""

    def refuse() -> None:
        raise Busy(f"Another push or pull of {root} is going on; wait for it to end, or stop it.")

    path = lock_path(root)
    with contextlib.ExitStack() as stack:
        with writing(path, "check its permissions"):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(path, on_wait=refuse))
        yield
