"""Bring files to a target: small ones as they are, larger ones part by part, each part once.

Knows no manifest: it is given for each file its own name if that is free, and a new name that was never used. Under
a new name only one content is ever put, so a request that ends late, after its push was cut, harms nothing; and what
has arrived there is ours. Under the file's own name another writer may have put something since.
"""

import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from bitnet_core.errors import explained
from bitnet_core.files.regular import open_regular
from bitnet_core.storage.database import NotCopied, copied, version_of_database
from bitnet_core.storage.digest import hashed, sha256
from bitnet_core.storage.layout import Index, Known, Part, Stored, index_key, part_bytes, part_key
from bitnet_core.storage.putting import Stems, Taken, put_new, put_once
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.snapshot import LocalFile, version_of
from bitnet_core.storage.state import State
from bitnet_core.storage.target import Target

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


@dataclass(frozen=True)
class Arrivals:
    """What is there, if something arrived before, and its sizes; and whether `others` may have put some of it."""

    there: Mapping[str, int]
    others: bool


class _Changed(Exception):
    """The file is not what it was when it was looked at."""


class Sending:
    """Sends files. `same` gives the entry of content with this hash if it is stored already."""

    def __init__(
        self,
        target: Target,
        state: State,
        sender: Sender,
        stems: Callable[[str], Stems],
        same: Callable[[str, Known], Stored | None],
        arrivals: Arrivals,
        on_bytes: OnBytes = lambda _file, _done: None,
    ) -> None:
        self.target = target
        self.state = state
        self.sender = sender
        self.on_bytes = on_bytes
        self.sent = Sent()
        self._stems = stems
        self._same = same
        self.arrivals = arrivals
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
        self.sent.left += [f"{file.name} keeps changing; it is stored once it stops." for file in files]
        return self.sent

    def stem(self, file: LocalFile) -> str:
        """The stem for a file in parts: one under which parts of it have arrived, else its own, else a new one."""
        stems = self._stems(file.name)
        begun = self.state.attempts(file.name, file.version)
        usable = [stem for stem in (*begun, stems.own) if stem and (stem != file.name or stems.own)]
        return next((stem for stem in usable if stem not in self._taken), stems.new)

    def is_ours(self, file: LocalFile, stem: str) -> bool:
        """Whether only this machine can have put what lies under a stem."""
        return stem != file.name or not self.arrivals.others

    def leave(self, file: LocalFile, error: OSError) -> None:
        """A file that can't be read holds nothing else up."""
        self.sent.left.append(f"{file.path} is not stored {explained(error, 'check its permissions')}.")

    def give_up_stem(self, file: LocalFile, stem: str) -> None:
        """Other content has the stem, or a part of what the file was: it is sent again under another one."""
        self._taken.add(stem)
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
                    version = file.version
                    if version_of_database(file.path) != version:  # no other copy is this one
                        version = f"{version} {secrets.token_hex(4)}"
                    self._send_content(replace(file, size=size, version=version), copy, size)
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
        stems, looked_at = self._stems(file.name), False
        for stem in self.state.attempts(file.name, file.version):  # of a push that was cut before its manifest
            if self.state.arrived(stem, file.version).get(_WHOLE) == known.sha256 and self.arrivals.there.get(
                stem
            ) == len(data):
                if self.is_ours(file, stem) and (stem != file.name or stems.own):
                    return self.arrived(file, known, _entry(file, data, known, stem))
                looked_at = looked_at or stem == stems.own

        def then(found: tuple[str, bool]) -> None:
            used, was_sent = found
            self.state.arrive(used, _WHOLE, file.version, known.sha256)
            self.sent.bytes += len(data) if was_sent else 0
            self.sent.files += was_sent
            self.on_bytes(file, len(data))
            self.arrived(file, known, _entry(file, data, known, used))

        def put() -> tuple[str, bool]:
            with hashed(data, known.sha256):
                return put_new(self.target, stems, data, looked_at=looked_at)

        return self.sender.submit(put, len(data), then)


class _Parts:
    """One file on its way in parts. The index is put when the last part has arrived.

    Under the file's own name, which another machine may use as well, nothing is ever replaced, and what seems to be
    there from a push that was cut is read.
    """

    def __init__(self, sending: Sending, file: LocalFile, size: int) -> None:
        self._sending = sending
        self._file = file
        self._size = size
        self._part_bytes = part_bytes(size, sending.target.limits)
        self._stem = sending.stem(file)
        self._shared = self._stem == file.name
        self._parts: dict[int, Part] = {}
        self._done = 0
        self._given_up = False

    def send(self, path: Path) -> None:
        """Submit the parts of the file. Each is read once, by the thread that sends it."""
        target, state = self._sending.target, self._sending.state
        there = {one.key: one.size for one in target.list(f"{self._stem}.parts/")}
        arrived, ours = state.arrived(self._stem, self._file.version), self._sending.is_ours(self._file, self._stem)
        source = self._sending.sender.resources.enter_context(open_regular(path))
        for number in range(-(-self._size // self._part_bytes)):
            size = min(self._part_bytes, self._size - number * self._part_bytes)
            listed = there.get(part_key(self._stem, number)) == size
            self._submit(source, number, size, arrived.get(number, ""), listed=listed, trusted=listed and ours)
            if self._given_up:
                return

    def _submit(self, source: BinaryIO, number: int, size: int, known: str, *, listed: bool, trusted: bool) -> None:
        target, key = self._sending.target, part_key(self._stem, number)

        def put() -> tuple[str, bool]:
            data = _read_at(source, number * self._part_bytes, size)
            digest = sha256(data)
            if known and known != digest:  # whatever its version says, it is not what was sent
                raise Taken
            if known and trusted:
                return digest, False
            with hashed(data, digest):
                return digest, put_once(target, key, data, shared=self._shared, listed=listed)

        def then(found: tuple[str, bool] | Exception) -> None:
            if self._given_up:
                return
            if isinstance(found, Exception):
                self._give_up(found)
                return
            digest, was_sent = found
            self._sending.sent.bytes += size if was_sent else 0
            self._take(source, number, Part(size, digest))

        self._sending.sender.submit(lambda: _returned(put, Taken, _Changed, OSError), size, then)

    def _take(self, source: BinaryIO, number: int, part: Part) -> None:
        """A part has arrived: a later push relies on it. After the last one the index is put."""
        self._sending.state.arrive(self._stem, number, self._file.version, part.sha256)
        self._parts[number] = part
        self._done += part.size
        self._sending.on_bytes(self._file, self._done)
        if self._done < self._size:
            return
        unchanged = _is_unchanged(self._file, os.fstat(source.fileno()))
        source.close()
        if unchanged:
            self._put_index()
        else:
            self._give_up(_Changed())

    def _put_index(self) -> None:
        data = Index(self._size, [self._parts[number] for number in sorted(self._parts)]).encode()
        known = Known(sha256(data), self._part_bytes)
        stem = "" if self._stem == self._file.name else self._stem
        entry = Stored(self._file.name, self._size, known.sha256, self._file.role, stem, self._part_bytes)
        target, key = self._sending.target, index_key(self._stem)

        def put() -> bool:
            return put_once(target, key, data, shared=self._shared, listed=False)

        self._sending.sender.submit(
            lambda: _returned(put, Taken),
            len(data),
            lambda found: self._give_up(found) if isinstance(found, Taken) else self._arrived(known, entry),
        )

    def _give_up(self, error: Exception) -> None:
        """Send nothing more of the file under this stem. Its source stays open: other threads may be reading it."""
        self._given_up = True
        if isinstance(error, OSError):
            self._sending.leave(self._file, error)
        else:
            self._sending.give_up_stem(self._file, self._stem)

    def _arrived(self, known: Known, entry: Stored) -> None:
        self._sending.sent.files += 1
        self._sending.arrived(self._file, known, entry)


def _entry(file: LocalFile, data: bytes, known: Known, stem: str) -> Stored:
    return Stored(file.name, len(data), known.sha256, file.role, "" if stem == file.name else stem)


def _returned(call: Callable[[], T], *errors: type[E]) -> T | E:
    """What the call returns, or which of these errors it raised."""
    try:
        return call()
    except errors as error:
        return error


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
