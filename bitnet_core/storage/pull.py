"""Pull: bring files of the newest state to this machine. Each is verified before it gets its name.

A file that the target has lost or damaged keeps no other file from coming, and is named at the end.
"""

import contextlib
import glob
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files import fsync_folder
from bitnet_core.files.regular import open_regular
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.record import COPIED
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.hashing import hash_file
from bitnet_core.storage.identity import experiment_id, keep_id
from bitnet_core.storage.layout import Index, Known, Stored, part_key, read_index
from bitnet_core.storage.left_out import is_left_out
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.snapshot import version_of
from bitnet_core.storage.state import State, lock_path
from bitnet_core.storage.target import Corrupt, NoSuchObject, Target
from bitnet_core.storage.travel import SETTINGS_FILE
from bitnet_core.text import printable

_SHOWN = 3
_NAME_BYTES = 200
_BROUGHT = "brought "
"""Before a file's name: the version of it that a pull brought."""
_RECORD = re.compile(r"logs/[^/]+/run\.json")
OnBytes = Callable[[str, int, int], object]
"""Told a file's name, how many of its bytes are here, and its size."""


@dataclass
class Pulled:
    """What a pull did."""

    key: str
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    unchanged: int = 0


@dataclass(frozen=True)
class Newest:
    """The newest readable state, the names of its files that are not all there, and a sentence if it is old."""

    published: Published
    lacking: frozenset[str] = frozenset()
    warning: str = ""


class NothingThere(BitnetError):
    """A place that holds no experiment."""


class Incomplete(BitnetError):
    """Files that could not be brought, as the target has lost or damaged them; the others are here.

    `remarks` are to be told beside it.
    """

    remarks: Sequence[str] = ()


class LostFile(BitnetError):
    """A file that the target has lost or damaged."""


def newest_state(target: Target) -> Newest:
    """The newest state, even where something of it is missing: nobody may take an older one for it unawares."""
    while True:
        found = manifests.keys(target)
        published, unreadable = _readable(target, found)
        # Listed after the manifest was read: a push that ends meanwhile adds to it, and removes what is older.
        listed = {one.key: one.size for one in target.list("")}
        lacking = frozenset(entry.name for entry in published.manifest.files if not entry.is_among(listed))
        if not lacking or manifests.keys(target) == found:
            break
    warning = ""
    if unreadable:
        made = published.manifest
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(made.created))
        warning = (
            f"The newest state at {target.place} can't be read ({unreadable} is damaged), so this is an older one, "
            f"state {made.counter} of {when}; run `bitnet store push --verify` on the machine that stored the newest."
        )
    return Newest(published, lacking, warning)


def _readable(target: Target, keys: list[str]) -> tuple[Published, str]:
    """The newest manifest that can be read, and the key of a newer one that can't."""
    unreadable = ""
    for key in keys:
        try:
            return manifests.read(target, key), unreadable
        except manifests.Damaged:
            unreadable = unreadable or key
        except NoSuchObject:
            continue
    if unreadable:
        raise BitnetError(
            f"Nothing can be brought from {target.place}: no manifest there can be read; run `bitnet store push "
            "--verify` on the machine that has the experiment."
        )
    raise NothingThere(
        f"Nothing can be brought from {target.place}: it holds no experiment; `bitnet store push` stores one."
    )


class Pull:
    """One pull into an experiment's folders."""

    def __init__(
        self,
        experiment: Experiment,
        target: Target,
        state: State,
        published: Published,
        *,
        force: bool = False,
        goes_on: bool = False,
        lacking: Collection[str] = (),
        on_bytes: OnBytes = lambda _name, _done, _size: None,
        stop: threading.Event | None = None,
    ) -> None:
        """`force` replaces files here that differ; `goes_on` those that a pull brought and nobody changed since.

        Files that are `lacking` are not tried.
        """
        self._experiment = experiment
        self._target = target
        self._state = state
        self._published = published
        self._force = force
        self._goes_on = goes_on
        self._lacking = frozenset(lacking)
        self._on_bytes = on_bytes
        self._stop = stop
        self._require_same_experiment()

    def run(self, wanted: list[Stored]) -> Pulled:
        """Bring these files. UsageError names files here that differ, before anything is written.

        Incomplete names those that are not there as they were stored, after the others were brought.
        """
        missing = self.missing(wanted)
        done = Pulled(self._published.key, unchanged=len(wanted) - len(missing))
        lost: list[LostFile] = []
        for entry in missing:
            try:
                self._bring(entry, done)
            except LostFile as error:
                lost.append(error)
        if done.files or not lost:
            keep_id(self._experiment.root, self._published)
        if lost:
            raise self._incomplete(lost, done)
        if {entry.name for entry in wanted} >= {entry.name for entry in self._published.manifest.files}:
            self._state.remember("manifest", self._published.key)
        return done

    def missing(self, wanted: list[Stored]) -> list[Stored]:
        """Those of the files that are not here as they are stored. UsageError names files here that differ."""
        missing = [entry for entry in wanted if not self._is_here(entry)]
        self._refuse_to_overwrite(missing)
        return missing

    def read(self, entry: Stored) -> bytes:
        """The content of a stored file that is one object."""
        data = self._get(entry, entry.key)
        if len(data) != entry.size or sha256(data) != entry.sha256:
            raise self._damaged(entry)
        return data

    def path_of(self, name: str) -> Path:
        """Where a stored file belongs here. BitnetError for a name that leads elsewhere."""
        top, _, rest = name.partition("/")
        folders = {
            "checkpoints": self._experiment.checkpoints,
            "data": self._experiment.data,
            "reports": self._experiment.reports,
            "logs": self._experiment.logs,
        }
        if top in folders and rest and not is_left_out(name):
            return folders[top] / rest
        if top.startswith("data.") and rest and not is_left_out(name):
            data = self._experiment.data.resolve()
            return data.with_name(data.name + top.removeprefix("data")) / rest
        if name == SETTINGS_FILE:  # a copy to look at, so it may be replaced; the settings here are in `.env`
            return lock_path(self._experiment.root).with_name(name)
        if top == "inputs" and rest and not is_left_out(name):
            return self._experiment.root / name
        raise BitnetError(
            f"{printable(name)[:200]} is no file of an experiment; the manifest is not one of bitnet's."
        )

    # -- before ----------------------------------------------------------------------------------------------

    def _require_same_experiment(self) -> None:
        here, there = experiment_id(self._experiment.root), self._published.manifest.experiment
        if here and here != there and not self._force:
            raise UsageError(
                f"{self._target.place} holds another experiment than {self._experiment.root}; open it in a folder "
                "of its own with `bitnet open`."
            )

    def _is_here(self, entry: Stored) -> bool:
        path = self.path_of(entry.name)
        try:
            with open_regular(path) as source:
                status = os.fstat(source.fileno())
        except OSError:
            return False
        if status.st_size != entry.size:
            return False
        known = self._state.known(entry.name, version_of(status)) or self._hashed(path, entry)
        return entry.has(known)

    def _hashed(self, path: Path, entry: Stored) -> Known:
        known = Known(hash_file(path, entry.part_bytes), entry.part_bytes)
        self._state.know(entry.name, version_of(path.stat()), known)
        return known

    def _refuse_to_overwrite(self, missing: list[Stored]) -> None:
        names = [entry.name for entry in missing if entry.name != SETTINGS_FILE]
        differ = [name for name in names if os.path.lexists(self.path_of(name)) and not self._was_brought(name)]
        if differ and not self._force:
            raise UsageError(
                f"{_shown(differ)} here differ from {self._target.place}; nothing was changed. "
                "`bitnet store pull --force` replaces them, `bitnet store push --force` stores them."
            )

    def _incomplete(self, lost: list[LostFile], done: Pulled) -> Incomplete:
        said = _shown([str(error) for error in lost])
        brought = f"{len(done.files)} files were brought" if done.files else "nothing was brought"
        return Incomplete(
            f"{said} at {self._target.place}; {brought}. `bitnet store push --verify` on the machine that has "
            f"{'it' if len(lost) == 1 else 'them'} repairs the copy; if there is none, `bitnet store push --verify "
            "--force` here goes on without."
        )

    def _was_brought(self, name: str) -> bool:
        """Whether a pull that this one continues brought the file that is here, and it is as it was then."""
        if not self._goes_on:
            return False
        with contextlib.suppress(OSError):
            return self._state.note(f"{_BROUGHT}{name}") == version_of(self.path_of(name).lstat())
        return False

    # -- one file --------------------------------------------------------------------------------------------

    def _bring(self, entry: Stored, done: Pulled) -> None:
        if entry.name in self._lacking:
            raise LostFile(f"{printable(entry.name)} is missing or cut")
        path = self.path_of(entry.name)
        temp = path.with_name(f".{_short(path.name)}.{entry.sha256[:16]}.part")
        try:
            self._require_inside(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.part_bytes:
                self._bring_parts(entry, temp)
            else:
                self._bring_whole(entry, temp)
            if _RECORD.fullmatch(entry.name):
                path.with_name(COPIED).touch()
            temp.replace(path)
            fsync_folder(path.parent)
            status = path.stat()
        except OSError as error:
            raise BitnetError(f"{path} can't be written {explained(error, 'check its permissions')}.") from error
        self._state.know(entry.name, version_of(status), Known(entry.sha256, entry.part_bytes))
        self._state.remember(f"{_BROUGHT}{entry.name}", version_of(status))
        done.files.append(entry.name)
        done.bytes += entry.size

    def _require_inside(self, path: Path) -> None:
        """No folder on the way may be a link out of the experiment: what is stored must not choose where it goes."""
        tops = {
            folder.resolve()
            for folder in (
                self._experiment.root,
                self._experiment.checkpoints,
                self._experiment.data.parent,
                self._experiment.reports,
                self._experiment.logs,
            )
        }
        parent = path.parent.resolve()
        if not any(parent.is_relative_to(top) for top in tops):
            raise BitnetError(f"{path} would be written outside the experiment, through a link; remove that link.")

    def _bring_whole(self, entry: Stored, temp: Path) -> None:
        data = self.read(entry)
        with os.fdopen(_opened(temp, os.O_TRUNC), "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        self._on_bytes(entry.name, len(data), entry.size)

    def _bring_parts(self, entry: Stored, temp: Path) -> None:
        """Each part goes to its place in the temporary file, unless an earlier pull has left it there."""
        try:
            index = read_index(self._get(entry, entry.index_key), entry)
        except Corrupt as error:
            raise self._damaged(entry) from error
        arrived = 0

        def then(size: int) -> None:
            nonlocal arrived
            arrived += size
            self._on_bytes(entry.name, arrived, entry.size)

        def then_write(offset: int, data: bytes) -> None:
            # In this thread: after a failure others may still run when `fd` is another file's.
            view, at = memoryview(data), offset
            while view:
                written = os.pwrite(fd, view, at)
                view, at = view[written:], at + written
            then(len(data))

        _remove_others(temp, self.path_of(entry.name))
        fd = _opened(temp)
        try:
            # A sender of its own: what is left in it after a failure is never looked at again.
            with Sender(self._target.limits, stop=self._stop) as sender:
                for number, part in enumerate(index.parts):
                    offset = number * entry.part_bytes
                    if sha256(os.pread(fd, part.size, offset)) == part.sha256:
                        then(part.size)
                        continue
                    sender.submit(self._part_job(entry, index, number), part.size, partial(then_write, offset))
                sender.drain()
            os.ftruncate(fd, entry.size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _part_job(self, entry: Stored, index: Index, number: int) -> Callable[[], bytes]:
        part = index.parts[number]

        def bring() -> bytes:
            data = self._get(entry, part_key(entry.key, number))
            if len(data) != part.size or sha256(data) != part.sha256:
                raise self._damaged(entry)
            return data

        return bring

    def _get(self, entry: Stored, key: str) -> bytes:
        try:
            return self._target.get(key)
        except NoSuchObject:
            raise LostFile(f"{printable(entry.name)} is missing") from None
        except Corrupt as error:
            raise self._damaged(entry) from error

    def _damaged(self, entry: Stored) -> LostFile:
        return LostFile(f"{printable(entry.name)} is damaged")


def _shown(some: list[str]) -> str:
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return ", ".join(some[:_SHOWN]) + more


def _short(name: str) -> str:
    """The first bytes of a name, so that a temporary file's name still has room after it."""
    return name.encode()[:_NAME_BYTES].decode(errors="ignore")


def _remove_others(temp: Path, path: Path) -> None:
    """Remove what a cut pull has left of another version of a large file."""
    for other in path.parent.glob(f".{glob.escape(_short(path.name))}.{'[0-9a-f]' * 16}.part"):
        if other != temp:
            other.unlink(missing_ok=True)


def _opened(temp: Path, flags: int = 0) -> int:
    """A temporary file to read and write; what another program may have put there as a link is not followed."""
    return os.open(temp, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o666)
