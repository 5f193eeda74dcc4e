"""A manifest: every file of an experiment at one moment. It is written after all that it names, and never changes.

Its key has its counter and its hash: `manifests/000012-<sha256>.json`. The highest complete manifest is the state.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import msgspec

from bitnet_core.errors import NEWER, BitnetError
from bitnet_core.storage.digest import sha256
from bitnet_core.storage.layout import Stored
from bitnet_core.storage.target import Corrupt, NoSuchObject, Target, get_stored
from bitnet_core.text import printable

FOLDER = "manifests/"
_KEY = re.compile(r"manifests/(\d{6,12})-([0-9a-f]{64})\.json")
_MOST_FILES = 200_000
_MOST_OBJECTS = 1_000_000
"""Of all files: an entry of a few bytes may name 100,000 parts."""
_MOST_COUNTER = 10**9
_LATEST = 2.5e11
"""Unix seconds in the year 9892: a calendar must know the time."""
_ID = re.compile(r"[0-9a-f]{32}")


class Manifest(msgspec.Struct, frozen=True):
    """`experiment` is a random id, `parent` the key of the manifest before it, `writer` who wrote it."""

    experiment: str
    name: str
    counter: int
    files: list[Stored]
    parent: str = ""
    writer: str = ""
    created: float = 0.0
    format: int = 1

    def encode(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"

    def by_name(self) -> dict[str, Stored]:
        return {one.name: one for one in self.files}

    def objects(self) -> dict[str, int | None]:
        """Every object that it names, with its size; None for an index."""
        return dict(found for one in self.files for found in one.objects())


@dataclass(frozen=True)
class Published:
    """A manifest and its key."""

    key: str
    manifest: Manifest


def key_of(manifest: Manifest) -> str:
    if manifest.counter > _MOST_COUNTER:
        raise BitnetError(
            f"The newest state says that it is number {manifest.counter - 1}, and none can come after it; "
            f"remove {printable(manifest.parent)[:200]} from the target, or set STORAGE_NAME to another name."
        )
    return f"{FOLDER}{manifest.counter:06d}-{sha256(manifest.encode())}.json"


def counter_of(key: str) -> int | None:
    """The counter in a manifest's key; None for another key."""
    found = _KEY.fullmatch(key)
    return int(found[1]) if found else None


def keys(target: Target) -> list[str]:
    """The keys of all manifests, newest first; of two with one counter, the one that counts first.

    What is larger than any object can't be one, and could not be read.
    """
    most = target.limits.object_bytes
    found = [
        (counter, one.key)
        for one in target.list(FOLDER)
        if one.size <= most and (counter := counter_of(one.key)) is not None
    ]
    return [key for _, key in sorted(found, key=lambda pair: (-pair[0], pair[1]))]


def published(target: Target, found: Iterable[str] | None = None) -> Iterator[Published]:
    """The manifests of a target that can be read, newest first."""
    for key in keys(target) if found is None else found:
        try:
            yield read(target, key)
        except (NoSuchObject, Damaged):
            continue


class _Format(msgspec.Struct):
    format: int = 1


class Damaged(BitnetError):
    """A manifest that can't be what it was written as."""


def damaged(target: Target) -> list[str]:
    """The keys of the manifests that can't be read, down to the newest one that can."""
    found: list[str] = []
    for key in keys(target):
        try:
            read(target, key)
        except Damaged:
            found.append(key)
        except NoSuchObject:
            continue
        else:
            break
    return found


def read(target: Target, key: str) -> Published:
    """A manifest, in which every name, size and number has been checked.

    NoSuchObject, Damaged, or BitnetError for one of a newer version: the one before it must not be used in its place.
    """
    match = _KEY.fullmatch(key)
    if match is None:
        raise Damaged(f"{printable(key)[:200]} is not a manifest's name.")
    try:
        data = get_stored(target, key, match[2])
    except Corrupt:
        raise Damaged(f"{printable(key)[:200]} is damaged: its content is not what its name says.") from None
    return decoded(key, data)


def decoded(key: str, data: bytes) -> Published:
    """The manifest with these bytes, checked. Damaged, or BitnetError for one of a newer version."""
    match = _KEY.fullmatch(key)
    shown = printable(key)[:200]
    if match is None or sha256(data) != match[2]:
        raise Damaged(f"{shown} is damaged: its content is not what its name says.")
    try:
        if msgspec.json.decode(data, type=_Format).format > 1:
            raise BitnetError(f"{shown} was {NEWER}.")
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Damaged(f"{shown} can't be read as a manifest.") from None
    if manifest.counter > _MOST_COUNTER:
        raise Damaged(f"{shown} has a number that no push can have reached.")
    if not 0 <= manifest.created <= _LATEST:
        raise Damaged(f"{shown} has an impossible time.")
    if manifest.format != 1 or manifest.counter != int(match[1]) or not _ID.fullmatch(manifest.experiment):
        raise Damaged(f"{shown} does not fit its name.")
    if len(manifest.files) > _MOST_FILES:
        raise Damaged(f"{shown} names more than {_MOST_FILES} files.")
    try:
        for one in manifest.files:
            one.require_valid()
    except BitnetError as error:
        raise Damaged(f"{shown} is not usable: {error}") from None
    if sum(one.part_count + 1 for one in manifest.files) > _MOST_OBJECTS:
        raise Damaged(f"{shown} names more than {_MOST_OBJECTS} objects.")
    _require_distinct(manifest, shown)
    return Published(key, manifest)


def _require_distinct(manifest: Manifest, shown: str) -> None:
    """No two files with one name, and no file where another has its folder."""
    names = {one.name for one in manifest.files}
    if len(names) != len(manifest.files):
        raise Damaged(f"{shown} names a file twice.")
    for name in names:
        parent = name.rpartition("/")[0]
        while parent:
            if parent in names:
                raise Damaged(f"{shown} has {printable(parent)[:200]} as a file and as a folder.")
            parent = parent.rpartition("/")[0]
