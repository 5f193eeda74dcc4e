"""How a file is laid out in objects: one object, or a folder of numbered parts with an index that is written last.

The objects of a file never change once a manifest names them. A file that changed is stored again under another stem:
its own name, or `NAME.revisions/<counter>-<random>`, which was never used, while its own name is in use. One that
was set aside keeps the stem that it had at its place before.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from bitnet_core.errors import BitnetError
from bitnet_core.storage.digest import Digest, sha256
from bitnet_core.storage.names import require_key
from bitnet_core.storage.target import MIB, OBJECT_BYTES, Corrupt, Limits
from bitnet_core.text import printable

PART_BYTES = 8 * MIB
"""The size of a part: several are sent at once within the memory that one whole object may take."""
MOST_PARTS = 100_000
_ASIDE = re.compile(
    r"(?P<checkpoints>checkpoints/)(?:[^/]+/)+(?P<file>[^/]+)|(?P<data>data)(?:\.|/\.)superseded/[^/]+(?P<rest>/.+)"
)
_MOST_BYTES = 1 << 50
_INDEX_BYTES, _ENTRY_BYTES = 64, 100
"""At most, of an index: all but its parts, and one part."""


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One part of a file, as an index lists it."""

    size: int
    sha256: Digest


class Index(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`index.json`: the parts of a file. All but the last have the same size."""

    size: int
    parts: list[Part]
    format: int = 1

    def encode(self) -> bytes:
        return msgspec.json.encode(self) + b"\n"


@dataclass(frozen=True)
class Known:
    """The hash of a file's content, as `Stored.sha256` has it for parts of this size."""

    sha256: Digest
    part_bytes: int


class Stored(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file in a manifest. `sha256` is that of its bytes; of a file in parts, that of its index."""

    name: str
    size: int
    sha256: Digest
    role: str
    stem: str = ""
    """The key of its object, or of its parts' folder without `.parts`; empty = its name."""
    part_bytes: int = 0
    """The size of its parts; 0 = it is one object."""

    @property
    def key(self) -> str:
        return self.stem or self.name

    @property
    def index_key(self) -> str:
        return index_key(self.key)

    @property
    def part_count(self) -> int:
        return -(-self.size // self.part_bytes) if self.part_bytes else 0

    def objects(self) -> Iterator[tuple[str, int | None]]:
        """Every object of the file and its size; None for the index."""
        if not self.part_bytes:
            yield self.key, self.size
            return
        for number in range(self.part_count):
            yield part_key(self.key, number), min(self.part_bytes, self.size - number * self.part_bytes)
        yield self.index_key, None

    def has(self, known: Known) -> bool:
        """Whether its content is the one with this hash."""
        return (self.sha256, self.part_bytes) == (known.sha256, known.part_bytes)

    def is_among(self, listed: Mapping[str, int]) -> bool:
        """Whether every object of the file is in a listing, with its size."""
        return all(key in listed and size in (None, listed[key]) for key, size in self.objects())

    def require_valid(self) -> None:
        """BitnetError for an entry that no version of this program writes."""
        require_key(self.name)
        shown = printable(self.name)[:200]
        before = place_before(self.name)
        own = (self.name, *folders_of(self.name), *([before] if before else []))
        moved = bool(before) and self.stem == before
        if self.stem and not moved and not any(self.stem.startswith(f"{one}.revisions/") for one in own):
            raise BitnetError(f"The manifest keeps {shown} under another file's name.")
        if self.stem:
            require_key(self.stem)
        if (
            not 0 <= self.size <= _MOST_BYTES
            or len(self.sha256) != 64
            or not set(self.sha256) <= set("0123456789abcdef")
        ):
            raise BitnetError(f"The manifest has no possible size or hash of {shown}.")
        if not 0 <= self.part_bytes <= OBJECT_BYTES or self.part_count > MOST_PARTS:
            raise BitnetError(f"The manifest has no possible size of the parts of {shown}.")
        if not self.part_bytes and self.size > OBJECT_BYTES:
            raise BitnetError(f"The manifest has {shown} as one object, which is larger than any object.")


def place_before(name: str) -> str:
    """Where a file was before it was set aside; empty for one that was not."""
    found = _ASIDE.fullmatch(name)
    return "".join(filter(None, found.groups())) if found else ""


def folders_of(name: str) -> Iterator[str]:
    """The folders above a name, the innermost first."""
    while name := name.rpartition("/")[0]:
        yield name


def part_key(stem: str, number: int) -> str:
    return f"{stem}.parts/{number:05d}"


def index_key(stem: str) -> str:
    return f"{stem}.parts/index.json"


def part_bytes(size: int, limits: Limits) -> int:
    """The size of the parts of a file of `size` bytes; 0 if it is one object."""
    if size <= limits.object_bytes:
        return 0
    return min(PART_BYTES, limits.object_bytes)


def most_bytes(limits: Limits) -> int:
    """The size of the largest file that a target can hold: its index must fit an object."""
    parts = min(MOST_PARTS, (limits.object_bytes - _INDEX_BYTES) // _ENTRY_BYTES)
    return max(limits.object_bytes, parts * min(PART_BYTES, limits.object_bytes))


def read_index(data: bytes, stored: Stored) -> Index:
    """The index of a stored file. Corrupt if it is not the one that the manifest means."""
    name = printable(stored.name)
    if sha256(data) != stored.sha256:
        raise Corrupt(f"The index of {name} is not the one that was stored.")
    try:
        index = msgspec.json.decode(data, type=Index)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Corrupt(f"The index of {name} can't be read.") from None
    sizes = [size for _, size in stored.objects()][:-1]
    if index.size != stored.size or [part.size for part in index.parts] != sizes:
        raise Corrupt(f"The index of {name} does not fit its manifest.")
    return index
