"""What this machine knows of an experiment's copy, for people: read from the files of `state.py`, asking no target.

Light, and it writes nothing.
"""

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bitnet_core.runs import clock
from bitnet_core.storage.state import CLOCK, FOLDER
from bitnet_core.text import finite

_VERSIONS = """
select name, version from hashes join shared using (name, sha256, part_bytes)
union all select name, sha256 from shared where name not like '%/%' limit 200000
"""
"""Only the settings are stored outside a folder. They are no file here, so their hash stands for a version."""


@dataclass(frozen=True)
class Folder:
    """How much of one folder is stored."""

    name: str
    files: int
    bytes: float


@dataclass(frozen=True)
class CopyStatus:
    """`at` is when the copy was last brought up to date or pulled, `counter` the number of that state.

    `waiting` has the files that are still to be sent, and since when by the clock as it is set now, the longest
    first. Times are Unix seconds. `unreadable` says which file can't be read, and why, where nothing else is known.
    """

    place: str = ""
    at: float | None = None
    counter: int | None = None
    folders: tuple[Folder, ...] = ()
    waiting: tuple[tuple[str, float], ...] = ()
    checkpoints: tuple[tuple[str, int], ...] = ()
    """The names and sizes of the checkpoints that are stored as they were here, such as `checkpoints/….pt`."""
    versions: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Of each file that was here as it is stored, by name: its size and times then (`LocalFile.version`)."""
    unreadable: str = ""


def version(root: Path) -> tuple[float, ...]:
    """Differs once something else may be known."""
    found = []
    for path in sorted((root / FOLDER).glob("*.sqlite*")):
        with contextlib.suppress(OSError):
            status = path.stat()
            found += [status.st_mtime, float(status.st_size)]
    return tuple(found)


def copy_status(root: Path, mark: str = "") -> CopyStatus:
    """Of the target that was used last; with `mark` (`target_mark`), of the one that the settings lead to.

    A file that can't be read may be of any target, so it is only told of where no other one tells.
    """
    newest = sorted((root / FOLDER).glob("*.sqlite"), key=_changed, reverse=True)
    unreadable = ""
    for path in newest:
        try:
            if (found := _read(path, mark)) is not None:
                return found
        except (sqlite3.Error, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            why = str(error) if isinstance(error, sqlite3.Error | OSError) else "its notes make no sense"
            unreadable = unreadable or f"{FOLDER}/{path.name} can't be read ({why})"
    return CopyStatus(unreadable=unreadable)


def _changed(path: Path) -> float:
    times = [0.0]
    for one in (path, path.with_name(f"{path.name}-wal")):
        with contextlib.suppress(OSError):
            times.append(one.stat().st_mtime)
    return max(times)


def _read(path: Path, mark: str) -> CopyStatus | None:
    """None if it is of another target than `mark` says. One of an earlier version has no mark."""
    # Where it is not open it is read in place, so that SQLite makes no files beside it.
    open_now = path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'' if open_now else '&immutable=1'}"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=0.2)) as found:
        wanted = "select name, value from notes where name in ('place', 'stored', 'mark', ?)"
        notes = dict(found.execute(wanted, [CLOCK]).fetchall())
        if mark and notes.get("mark", mark) != mark:
            return None
        waiting = found.execute("select name, since from waiting order by since, name limit 10000").fetchall()
        tables = {row[0] for row in found.execute("select name from sqlite_master")}  # an earlier version's has fewer
        wanted = "select name, size from shared where name like 'checkpoints/mini_bitnet_step_%.pt' limit 10000"
        shared = found.execute(wanted).fetchall() if "shared" in tables else []
        both = {"shared", "hashes"} <= tables
        versions = found.execute(_VERSIONS).fetchall() if both else []
    forward = clock.put_forward_since(str(notes.get(CLOCK, "")))
    stored: dict[str, Any] = json.loads(notes.get("stored", "{}"))
    counter = finite(stored.get("counter"))
    return CopyStatus(
        str(notes.get("place", "")),
        finite(stored.get("at")),
        None if counter is None else int(counter),
        tuple(Folder(str(name), int(many), float(size)) for name, (many, size) in stored.get("folders", {}).items()),
        tuple((str(name), float(since) + forward) for name, since in waiting),
        tuple((str(name), int(size)) for name, size in shared),
        {str(name): str(version) for name, version in versions},
    )
