"""Pull: bring files of the newest state to this machine. Each is verified before it gets its name.

A file that the target has lost or damaged, or does not let be read, keeps no other file from coming, and is named
at the end.
"""

import contextlib
import glob
import os
import re
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files import fsync_folder
from bitnet_core.files.half_written import short, temp_beside
from bitnet_core.files.pieces import write_at
from bitnet_core.files.writable import writing
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.record import COPIED
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.aside import Aside, logs_of
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.following import Following
from bitnet_core.storage.here import Here
from bitnet_core.storage.identity import experiment_id, keep_id
from bitnet_core.storage.layout import Index, Known, Stored, part_key, read_index
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.snapshot import version_of
from bitnet_core.storage.state import State
from bitnet_core.storage.target import Corrupt, NoSuchObject, Refused, Target, get_checked, get_stored
from bitnet_core.storage.travel import SETTINGS_FILE
from bitnet_core.text import printable

_SHOWN = 3
_RECORD = re.compile(r"logs/[^/]+/run\.json")
_T = TypeVar("_T")
OnBytes = Callable[[str, int, int], object]
"""Told a file's name, how many of its bytes are here, and its size."""


@dataclass
class Pulled:
    """What a pull did."""

    key: str
    files: list[str] = field(default_factory=list)
    bytes: int = 0
    unchanged: int = 0
    moved: list[str] = field(default_factory=list)
    """Files that another machine had set aside, and that this pull has moved here as well."""


class Incomplete(BitnetError):
    """Files that could not be brought, as the target has lost or damaged them or refuses them; the others are here.

    `remarks` are to be told beside it.
    """

    remarks: Sequence[str] = ()


class LostFile(BitnetError):
    """A file that the target has lost or damaged, or does not let be read, for the reason in `refused`."""

    refused = ""


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
        updates: bool = True,
        lacking: Collection[str] = (),
        on_bytes: OnBytes = lambda _name, _done, _size: None,
        stop: threading.Event | None = None,
    ) -> None:
        """A file here that is as it was last stored or brought is replaced if it `updates`; others need `force`.

        What was changed here is moved aside before it is replaced (`aside`). Files that are `lacking` are not tried.
        """
        self._experiment = experiment
        self._target = target
        self._state = state
        self.here = Here(experiment, state)
        self._published = published
        self._force = force
        self._updates = updates and self._is_newer()
        self.aside = Aside(experiment.root)
        self._lacking = frozenset(lacking)
        self._on_bytes = on_bytes
        self._stop = stop
        self._require_same_experiment()

    def run(self, wanted: list[Stored]) -> Pulled:
        """Bring these files. UsageError names files here that differ, before anything is written.

        Incomplete names those that are not there as they were stored, after the others were brought.
        """
        following = self.following(wanted)
        missing = self.missing(wanted, following)
        renames = following.renames()
        done = Pulled(self._published.key, unchanged=len(wanted) - len(missing) - len(renames))
        for name, entry in renames.items():
            if following.rename(name, entry):
                done.moved.append(name)
            else:
                missing.append(entry)
        lost: list[LostFile] = []
        for entry in missing:
            try:
                self._bring(entry, done)
            except LostFile as error:
                lost.append(error)
        done.moved += following.remove_rest()
        if done.files or not lost:
            keep_id(self._experiment.root, self._published)
        if lost:
            raise self._incomplete(lost, done)
        if {entry.name for entry in wanted} >= {entry.name for entry in self._published.manifest.files}:
            self._state.remember("manifest", self._published.key)
            self._state.note_stored(self._published.manifest.counter, self._published.manifest.files)
        return done

    def missing(self, wanted: list[Stored], following: Following) -> list[Stored]:
        """Those of the files that must be brought, as no rename brings them. UsageError names files that differ."""
        renamed = {entry.name for entry in following.renames().values()}
        missing = [entry for entry in wanted if entry.name not in renamed and not self.here.has(entry)]
        self._refuse_to_overwrite(missing)
        return missing

    def following(self, wanted: list[Stored]) -> Following:
        """What of these files another machine has set aside and is still in its old place here."""
        return Following(self.here, self._state, self._published.manifest.by_name(), wanted if self._updates else [])

    def read(self, entry: Stored) -> bytes:
        """The content of a stored file that is one object."""
        return self._get(entry, lambda: get_stored(self._target, entry.key, entry.sha256))

    def is_replacing(self, missing: list[Stored]) -> bool:
        """Whether bringing them would replace a file here."""
        return any(os.path.lexists(self.here.path_of(one.name)) for one in missing if one.name != SETTINGS_FILE)

    # -- before ----------------------------------------------------------------------------------------------

    def _is_newer(self) -> bool:
        """Whether the state comes after the one that this machine has seen: a target may have been set back."""
        seen = manifests.counter_of(self._state.note("manifest")) or 0
        return self._published.manifest.counter > seen or self._published.key == self._state.note("manifest")

    def _require_same_experiment(self) -> None:
        here, there = experiment_id(self._experiment.root), self._published.manifest.experiment
        if here and here != there and not self._force:
            raise UsageError(
                f"{self._target.place} holds another experiment than {self._experiment.root}; open it in a folder "
                "of its own with `bitnet open`."
            )

    def _refuse_to_overwrite(self, missing: list[Stored]) -> None:
        if self._force:
            return
        names = [entry.name for entry in missing if entry.name != SETTINGS_FILE]
        there = [name for name in names if os.path.lexists(self.here.path_of(name))]
        differ = [name for name in there if not self._updates or self.here.is_changed(name)]
        if differ:
            differs, them = ("differs", "it") if len(differ) == 1 else ("differ", "them")
            raise UsageError(
                f"{_shown(differ)} here {differs} from {self._target.place}; nothing was changed. "
                f"`bitnet store pull --force` replaces {them} and keeps yours aside, `bitnet store push --force` "
                "stores yours."
            )

    def _incomplete(self, lost: list[LostFile], done: Pulled) -> Incomplete:
        said = _shown([str(error) for error in lost])
        brought = f"{len(done.files)} files were brought" if done.files else "nothing was brought"
        told = f"{said} at {self._target.place}; {brought}."
        if refused := next((error.refused for error in lost if error.refused), ""):
            return Incomplete(f"{told} {refused}")
        return Incomplete(
            f"{told} `bitnet store push --verify` on the machine that has "
            f"{'it' if len(lost) == 1 else 'them'} repairs the copy; if there is none, `bitnet store push --verify "
            "--force` here drops what is lost."
        )

    # -- one file --------------------------------------------------------------------------------------------

    def _bring(self, entry: Stored, done: Pulled) -> None:
        if entry.name in self._lacking:
            raise LostFile(f"{printable(entry.name)} is missing or changed")
        path = self.here.path_of(entry.name)
        cut = path.with_name(f".{short(path.name)}.{entry.sha256[:16]}.part")
        temp = cut if entry.part_bytes else temp_beside(path)
        with writing(path, "check its permissions"), _removed_if_unwritable(temp):
            self.here.require_inside(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.part_bytes:
                self._bring_parts(entry, temp)
            else:
                self._bring_whole(entry, temp)
            if _RECORD.fullmatch(entry.name):
                path.with_name(COPIED).touch()
            self._keep(path, entry.name)
            temp.replace(path)
            fsync_folder(path.parent)
            status = path.stat()
        self._state.know(entry.name, version_of(status), Known(entry.sha256, entry.part_bytes))
        self._state.share([entry])
        done.files.append(entry.name)
        done.bytes += entry.size

    def _keep(self, path: Path, name: str) -> None:
        """Move aside what is at `path`, unless it is stored. A log beside a database may have more than that."""
        if name == SETTINGS_FILE or not os.path.lexists(path):
            return
        if self.here.is_changed(name) or any(log.exists() for log in logs_of(path)):
            self.aside.take(path, name)

    def _bring_whole(self, entry: Stored, temp: Path) -> None:
        data = self.read(entry)
        with os.fdopen(_opened(temp, os.O_EXCL), "wb") as out:
            write_at(out.fileno(), data)
            os.fsync(out.fileno())
        self._on_bytes(entry.name, len(data), entry.size)

    def _bring_parts(self, entry: Stored, temp: Path) -> None:
        """Each part goes to its place in the temporary file, unless an earlier pull has left it there."""
        index = self._get(
            entry, lambda: get_checked(self._target, entry.index_key, lambda data: read_index(data, entry))
        )
        arrived = 0

        def then(size: int) -> None:
            nonlocal arrived
            arrived += size
            self._on_bytes(entry.name, arrived, entry.size)

        def then_write(offset: int, data: bytes) -> None:
            # In this thread: after a failure others may still run when `fd` is another file's.
            write_at(fd, data, offset)
            then(len(data))

        _remove_others(temp, self.here.path_of(entry.name))
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
        key, digest = part_key(entry.key, number), index.parts[number].sha256
        return lambda: self._get(entry, lambda: get_stored(self._target, key, digest))

    def _get(self, entry: Stored, get: Callable[[], _T]) -> _T:
        try:
            return get()
        except NoSuchObject:
            raise LostFile(f"{printable(entry.name)} is missing") from None
        except Corrupt as error:
            raise LostFile(f"{printable(entry.name)} is damaged") from error
        except Refused as error:
            lost = LostFile(f"{printable(entry.name)} can't be read")
            lost.refused = str(error)
            raise lost from error


def _shown(some: list[str]) -> str:
    more = f" and {len(some) - _SHOWN} more" if len(some) > _SHOWN else ""
    return ", ".join(some[:_SHOWN]) + more


@contextlib.contextmanager
def _removed_if_unwritable(temp: Path) -> Iterator[None]:
    """Remove a temporary file if the disk is full or faulty. What a target has cut is left for the next pull."""
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            temp.unlink(missing_ok=True)
        raise


def _remove_others(temp: Path, path: Path) -> None:
    """Remove what a cut pull has left of another version of a large file."""
    for other in path.parent.glob(f".{glob.escape(short(path.name))}.{'[0-9a-f]' * 16}.part"):
        if other != temp:
            other.unlink(missing_ok=True)


def _opened(temp: Path, flags: int = 0) -> int:
    """A temporary file to read and write; what another program may have put there as a link is not followed."""
    return os.open(temp, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o666)
