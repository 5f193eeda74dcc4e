"""Bring files to a target: small ones as they are, larger ones part by part, each part once.

Knows no manifest: it is given for each file the stem to use, and another one in case that is taken.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from bitnet_core.errors import explained
from bitnet_core.files.regular import open_regular
from bitnet_core.storage.database import NotCopied, copied
from bitnet_core.storage.digest import hashed, sha256
from bitnet_core.storage.layout import Index, Known, Part, Stored, index_key, part_bytes, part_key
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.snapshot import LocalFile, version_of
from bitnet_core.storage.state import State
from bitnet_core.storage.target import AlreadyThere, Corrupt, NoSuchObject, Target

T = TypeVar("T")
E = TypeVar("E", bound=Exception)
_MOST_PASSES = 3
_WHOLE = -2
"""In the place of a part's number: the one object of a file."""


@dataclass
class Sent:
    """What came of sending files: their entries for a manifest, and what was left out and why."""

    stored: dict[str, Stored] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    files: int = 0
    bytes: int = 0
    """Files and bytes that were really sent."""

    def add(self, more: "Sent") -> None:
        """What came of sending once more."""
        self.stored |= more.stored
        self.files += more.files
        self.bytes += more.bytes


OnBytes = Callable[[LocalFile, int], object]
"""Told the file and how many bytes of it have arrived, each time that some have."""
Stems = Callable[[str], tuple[str, str]]
"""The stem for a file, and the one to use if other content has it."""


class _Taken(Exception):
    """Other content has the key of a part or of an index."""


class _Changed(Exception):
    """The file is not what it was when it was looked at."""


class Sending:
    """Sends files. `same` gives the entry of content with this hash if it is stored already."""

    def __init__(
        self,
        target: Target,
        state: State,
        sender: Sender,
        stems: Stems,
        same: Callable[[str, Known], Stored | None],
        on_bytes: OnBytes = lambda _file, _done: None,
    ) -> None:
        self.target = target
        self.state = state
        self.sender = sender
        self.on_bytes = on_bytes
        self.sent = Sent()
        self._stems = stems
        self._same = same
        self._taken: set[str] = set()
        self._again: list[LocalFile] = []

    def send(self, files: list[LocalFile], work_folder: Path) -> Sent:
        """Send these files, in this order. One that keeps changing is left out. `work_folder` is for copies."""
        for _ in range(_MOST_PASSES):
            self._again = []
            for file in files:
                self._send(file, work_folder)
            self.sender.drain()
            files = [fresh for file in self._again if (fresh := _looked_at_again(file)) is not None]
            if not files:
                return self.sent
        self.sent.left += [f"{file.name} changes all the while; it is stored when it rests." for file in files]
        return self.sent

    def stems(self, name: str) -> tuple[str, str]:
        """The stem for a file, and the one to use if that is taken."""
        stem, other = self._stems(name)
        return (other if name in self._taken else stem), other

    def leave(self, file: LocalFile, error: OSError) -> None:
        """A file that can't be read holds nothing else up."""
        self.sent.left.append(f"{file.path} is not stored {explained(error, 'check its permissions')}.")

    def give_up_stem(self, file: LocalFile) -> None:
        """Other content has the file's stem, or a part of what the file was: it is sent again under the other one."""
        self._taken.add(file.name)
        self._again.append(file)

    def arrived(self, file: LocalFile, known: Known, entry: Stored) -> None:
        """A file is complete on the target."""
        self.state.know(file.name, file.version, known)
        self.state.stop_waiting(file.name)
        self.sent.stored[file.name] = entry

    def _send(self, file: LocalFile, work_folder: Path) -> None:
        try:
            if file.is_database:
                with copied(file.path, work_folder) as copy:
                    size = copy.stat().st_size
                    self._send_content(replace(file, size=size), copy, size)
                    self.sender.drain()
            else:
                self._send_content(file, file.path, file.size)
        except FileNotFoundError:  # removed meanwhile, such as a checkpoint that a newer one replaces
            return
        except OSError as error:
            self.leave(file, error)
        except NotCopied as error:  # a journal in use holds nothing else up
            self.sent.left.append(str(error))
        except _Changed:
            self._again.append(file)

    def _send_content(self, file: LocalFile, path: Path, size: int) -> None:
        if part_bytes(size, self.target.limits):
            _Parts(self, file, size).send(path)
        else:
            self._send_whole(file, file.content if file.content is not None else _read(file, path, size))

    def _send_whole(self, file: LocalFile, data: bytes) -> None:
        known = Known(sha256(data), 0)
        if earlier := self._same(file.name, known):
            return self.arrived(file, known, earlier)
        stem, other = self.stems(file.name)
        for used in (stem, other):  # it arrived in a push that was cut before its manifest
            if self.state.arrived(used, file.version).get(_WHOLE) == known.sha256:
                return self.arrived(file, known, _entry(file, data, known, used))

        def then(found: tuple[str, bool]) -> None:
            used, was_sent = found
            self.state.arrive(used, _WHOLE, file.version, known.sha256)
            self.sent.bytes += len(data) if was_sent else 0
            self.sent.files += was_sent
            self.on_bytes(file, len(data))
            self.arrived(file, known, _entry(file, data, known, used))

        def put() -> tuple[str, bool]:
            with hashed(data, known.sha256):
                return _put_new(self.target, stem, other, data)

        return self.sender.submit(put, len(data), then)


class _Parts:
    """One file on its way in parts. The index is put when the last part has arrived.

    Under the file's own name, which another machine may use as well, nothing is ever replaced.
    """

    def __init__(self, sending: Sending, file: LocalFile, size: int) -> None:
        self._sending = sending
        self._file = file
        self._size = size
        self._part_bytes = part_bytes(size, sending.target.limits)
        self._stem, other = sending.stems(file.name)
        self._ours = self._stem == other
        self._parts: dict[int, Part] = {}
        self._done = 0
        self._given_up = False

    def send(self, path: Path) -> None:
        """Submit the parts of the file. Each is read once, by the thread that sends it."""
        target, state = self._sending.target, self._sending.state
        there = {one.key: one.size for one in target.list(f"{self._stem}.parts/")}
        arrived = state.arrived(self._stem, self._file.version)
        source = self._sending.sender.resources.enter_context(open_regular(path))
        for number in range(-(-self._size // self._part_bytes)):
            size = min(self._part_bytes, self._size - number * self._part_bytes)
            listed = there.get(part_key(self._stem, number)) == size
            self._submit(source, number, size, arrived.get(number, "") if listed else "", listed=listed)
            if self._given_up:
                return

    def _submit(self, source: BinaryIO, number: int, size: int, known: str, *, listed: bool) -> None:
        target, key = self._sending.target, part_key(self._stem, number)

        def put() -> tuple[str, bool]:
            data = _read_at(source, number * self._part_bytes, size)
            digest = sha256(data)
            with hashed(data, digest):
                return digest, known != digest and _put_part(target, key, data, ours=self._ours, listed=listed)

        def then(found: tuple[str, bool] | Exception) -> None:
            if self._given_up:
                return
            if isinstance(found, Exception):
                self._give_up(found)
                return
            digest, was_sent = found
            self._sending.state.arrive(self._stem, number, self._file.version, digest)
            self._sending.sent.bytes += size if was_sent else 0
            self._parts[number] = Part(size, digest)
            self._done += size
            self._sending.on_bytes(self._file, self._done)
            if self._done == self._size:
                unchanged = _is_unchanged(self._file, os.fstat(source.fileno()))
                source.close()
                if unchanged:
                    self._put_index()
                else:
                    self._give_up(_Changed())

        self._sending.sender.submit(lambda: _returned(put, _Taken, _Changed, OSError), size, then)

    def _put_index(self) -> None:
        data = Index(self._size, [self._parts[number] for number in sorted(self._parts)]).encode()
        known = Known(sha256(data), self._part_bytes)
        stem = "" if self._stem == self._file.name else self._stem
        entry = Stored(self._file.name, self._size, known.sha256, self._file.role, stem, self._part_bytes)
        target, key = self._sending.target, index_key(self._stem)

        def put() -> bool:
            return _put_part(target, key, data, ours=self._ours, listed=False)

        self._sending.sender.submit(
            lambda: _returned(put, _Taken),
            len(data),
            lambda found: self._give_up(found) if isinstance(found, _Taken) else self._arrived(known, entry),
        )

    def _give_up(self, error: Exception) -> None:
        """Send nothing more of the file under this stem. Its source stays open: other threads may be reading it."""
        self._given_up = True
        if isinstance(error, OSError):
            self._sending.leave(self._file, error)
        else:
            self._sending.give_up_stem(self._file)

    def _arrived(self, known: Known, entry: Stored) -> None:
        self._sending.sent.files += 1
        self._sending.arrived(self._file, known, entry)


def _entry(file: LocalFile, data: bytes, known: Known, stem: str) -> Stored:
    return Stored(file.name, len(data), known.sha256, file.role, "" if stem == file.name else stem)


def _put_new(target: Target, stem: str, other: str, data: bytes) -> tuple[str, bool]:
    """Put an object under `stem`, or under `other` if different content is there. Returns which, and whether sent."""
    if stem != other:
        try:
            target.put(stem, data, only_if_absent=True)
        except AlreadyThere:
            if _holds(target, stem, data):
                return stem, False
        else:
            return stem, True
    target.put(other, data)
    return other, True


def _put_part(target: Target, key: str, data: bytes, *, ours: bool, listed: bool) -> bool:
    """Put a part, unless it is there already; returns whether it was sent. _Taken if other content is there."""
    if listed and _holds(target, key, data):
        return False
    if ours:
        target.put(key, data)
        return True
    try:
        target.put(key, data, only_if_absent=True)
    except AlreadyThere:
        if not _holds(target, key, data):
            raise _Taken from None
        return False
    return True


def _returned(call: Callable[[], T], *errors: type[E]) -> T | E:
    """What the call returns, or which of these errors it raised."""
    try:
        return call()
    except errors as error:
        return error


def _holds(target: Target, key: str, data: bytes) -> bool:
    try:
        return target.get(key) == data
    except (NoSuchObject, Corrupt):
        return False


def _read_at(source: BinaryIO, offset: int, size: int) -> bytes:
    """`size` bytes of a file that other threads read too. _Changed if it is shorter."""
    data = os.pread(source.fileno(), size, offset)
    while len(data) < size:  # some file systems give less than was asked for
        more = os.pread(source.fileno(), size - len(data), offset + len(data))
        if not more:
            raise _Changed
        data += more
    return data


def _read(file: LocalFile, path: Path, size: int) -> bytes:
    """The file's bytes at one moment. _Changed if they are not those that were looked at."""
    with open_regular(path) as source:
        data = source.read(size)
        if len(data) < size:
            raise _Changed
        if not _is_unchanged(file, os.fstat(source.fileno())):
            raise _Changed
    return data


def _is_unchanged(file: LocalFile, status: os.stat_result) -> bool:
    """Whether the file is what was looked at; one that only grows, and a copy, always is."""
    return file.grows or file.is_database or version_of(status) == file.version


def _looked_at_again(file: LocalFile) -> LocalFile | None:
    try:
        status = file.path.stat()
    except OSError:
        return None
    return replace(file, size=status.st_size, version=version_of(status))
