"""Verify: hold every object of the newest state against its manifest. Repair: send again what is not as it was."""

import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from msgspec.structs import replace

from bitnet_core.errors import BitnetError
from bitnet_core.files.regular import open_regular
from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage import snapshot
from bitnet_core.storage.database import copied
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.hashing import hash_file
from bitnet_core.storage.layout import Index, Part, Stored, part_key, read_index
from bitnet_core.storage.manifest import Published
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.snapshot import LocalFile
from bitnet_core.storage.state import lock_path
from bitnet_core.storage.target import Corrupt, NoSuchObject, Refused, Target, get_checked, get_stored

_UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Fault:
    """An object that is not as it was stored: `missing`, `changed`, or `unreadable`, which may be whole.

    `why` is what the target says of one that is unreadable.
    """

    file: str
    key: str
    what: str
    why: str = ""


@dataclass
class Report:
    """What a verification found."""

    key: str
    files: int
    objects: int = 0
    bytes: int = 0
    faults: list[Fault] = field(default_factory=list)

    @property
    def damaged(self) -> list[str]:
        """The files that are known not to be whole."""
        return list(dict.fromkeys(fault.file for fault in self.faults if fault.what != _UNREADABLE))

    @property
    def unreadable(self) -> dict[str, str]:
        """The files that the target does not let be read, with what it says."""
        return {fault.file: fault.why for fault in self.faults if fault.what == _UNREADABLE}


def newest(target: Target) -> Published:
    """The newest manifest. BitnetError if nothing was stored, or every manifest is damaged."""
    found = next(manifests.published(target), None)
    if found is None:
        any_there = bool(manifests.keys(target))
        what = "holds no manifest that can be read" if any_there else "holds no experiment"
        raise BitnetError(f"{target.place} {what}; `bitnet store push` stores one.")
    return found


def verify(
    target: Target,
    published: Published,
    *,
    quick: bool = False,
    on_bytes: Callable[[int, int], object] = lambda _done, _total: None,
    stop: threading.Event | None = None,
) -> Report:
    """Compare every object with the manifest: its presence and size, and unless `quick` its content."""
    files = published.manifest.files
    report = Report(published.key, len(files))
    listed = {one.key: one.size for one in target.list("")}
    total = sum(one.size for one in files)

    def judged(entry: Stored, key: str, size: int, fault: str, why: str = "") -> None:
        report.objects += 1
        report.bytes += size
        if fault:
            report.faults.append(Fault(entry.name, key, fault, why))
        on_bytes(report.bytes, total)

    for key in manifests.damaged(target):
        report.faults.append(Fault(key, key, "changed"))
    with Sender(target.limits, stop=stop) as sender:
        for entry in files:
            for key, size, digest in _expected(target, entry, listed, judged):
                if key not in listed:
                    judged(entry, key, 0, "missing")
                elif listed[key] != size:
                    judged(entry, key, 0, "changed")
                elif quick:
                    judged(entry, key, size, "")
                else:
                    _compare(target, sender, entry, (key, size, digest), judged)
        sender.drain()
    return report


class Judged(Protocol):
    """Told of each object its file, its key, the bytes of it that are as they were stored, and its fault."""

    def __call__(self, entry: Stored, key: str, size: int, fault: str, why: str = "", /) -> None: ...


def _compare(target: Target, sender: Sender, entry: Stored, wanted: tuple[str, int, str], judged: Judged) -> None:
    key, size, digest = wanted

    def look() -> tuple[str, str]:
        return _looked(lambda: get_stored(target, key, digest))

    sender.submit(look, size, lambda found: judged(entry, key, size, *found))


def _looked(get: Callable[[], object]) -> tuple[str, str]:
    """The fault of what `get` reads, and what the target says of it; empty for none."""
    try:
        get()
    except NoSuchObject:
        return "missing", ""
    except Corrupt:
        return "changed", ""
    except Refused as error:
        return _UNREADABLE, str(error)
    return "", ""


def _expected(
    target: Target, entry: Stored, listed: dict[str, int], judged: Judged
) -> Iterator[tuple[str, int, str]]:
    """The objects of a file with their sizes and hashes. What an index says is known only if that is whole."""
    if not entry.part_bytes:
        yield entry.key, entry.size, entry.sha256
        return
    found: list[Index] = []
    judged(
        entry,
        entry.index_key,
        0,
        *_looked(lambda: found.append(get_checked(target, entry.index_key, lambda data: read_index(data, entry)))),
    )
    index = found[0] if found else None
    for number, (key, size) in enumerate(list(entry.objects())[:-1]):
        if index is not None:
            yield key, index.parts[number].size, index.parts[number].sha256
        elif listed.get(key) != size:
            judged(entry, key, 0, "changed" if key in listed else "missing")


# -- repair --------------------------------------------------------------------------------------------------


@dataclass
class Repaired:
    """The files that are whole again, and those that this machine does not have as they were stored.

    Of the latter, `others` are here with another content: a push has to look at them again.
    """

    files: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def repair(experiment: Experiment, target: Target, published: Published, report: Report) -> Repaired:
    """Put what a report misses, from the files of this machine that are still what the manifest says."""
    local = {file.name: file for file in snapshot.take(experiment).files}
    entries = published.manifest.by_name()
    done = Repaired()
    for name in report.damaged:
        if name.startswith(manifests.FOLDER):  # a push writes another one, if it may
            continue
        file, entry = local.get(name), entries[name]
        wrong = {fault.key for fault in report.faults if fault.file == name and fault.what != _UNREADABLE}
        with contextlib.ExitStack() as stack:
            path = _as_stored(experiment, file, stack) if file else None
            if file and path and _is_the_same(path, file.content, entry):
                _put_again(target, path, file.content, entry, wrong)
                done.files.append(name)
                continue
        done.left.append(name)
        if file:
            done.others.append(name)
    return done


def still_damaged(
    target: Target, published: Published, names: Collection[str], stop: threading.Event | None = None
) -> list[str]:
    """Which of these files are damaged at a second look: for one bad read nothing is given up."""
    files = [one for one in published.manifest.files if one.name in names]
    report = verify(target, Published(published.key, replace(published.manifest, files=files)), stop=stop)
    return [name for name in report.damaged if name in names]


def _as_stored(experiment: Experiment, file: LocalFile, stack: contextlib.ExitStack) -> Path | None:
    """What a push would read: of a database a copy. None if that changes too fast."""
    if not file.is_database:
        return file.path
    folder = lock_path(experiment.root).with_name("work")
    with contextlib.suppress(BitnetError, OSError):
        folder.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(copied(file.path, folder))
    return None


def _is_the_same(path: Path, content: bytes | None, entry: Stored) -> bool:
    with contextlib.suppress(OSError):
        digest = sha256(content) if content is not None else hash_file(path, entry.part_bytes)
        return digest == entry.sha256
    return False


def _put_again(target: Target, path: Path, content: bytes | None, entry: Stored, wrong: set[str]) -> None:
    if not entry.part_bytes:
        data = path.read_bytes() if content is None else content
        if sha256(data) == entry.sha256:
            target.put(entry.key, data)
        return
    parts = []
    with open_regular(path) as source:
        for number in range(entry.part_count):
            data = source.read(entry.part_bytes)
            parts.append(Part(len(data), sha256(data)))
            if part_key(entry.key, number) in wrong or entry.index_key in wrong:
                target.put(part_key(entry.key, number), data)
    index = Index(entry.size, parts).encode()
    if entry.index_key in wrong and sha256(index) == entry.sha256:
        target.put(entry.index_key, index)
