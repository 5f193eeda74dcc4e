"""What a GGUF says of itself: its keys, tensors, and in one of ours its checkpoint. It reads no weights.

The file's origin is unknown: every length is held against the bytes that are there.
"""

import contextlib
import hashlib
import math
import mmap
import os
import struct
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.export.blocks import EMBEDDING_TYPES, F32, LINEAR_TYPES, BlockType
from bitnet_core.export.gguf import LINEARS, ORIGIN, SEAL
from bitnet_core.export.gguf_file import ALIGNMENT, UNSEALED, seal_place
from bitnet_core.files.regular import open_regular

_FIXED = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_TYPES = {one.number: one for one in (*LINEAR_TYPES.values(), *EMBEDDING_TYPES.values(), F32)}
_VERSIONS = (2, 3)
_LATEST = 99
"""No version of the format is later: a file that says so is damaged."""
_MOST_DIMENSIONS = 4
_MOST_THINGS = 1 << 21
"""Keys, tensors and strings of lists, together. A file with holes may claim any number of empty ones."""
_CHUNK_BYTES = 1 << 20
_EMBEDDING = "token_embd.weight"
_FIRST_LAYER = {own: f"blk.0.{theirs}.weight" for own, theirs in LINEARS.items()}


class Damaged(ValueError):
    """The file is not what it should be."""


class OtherFormat(ValueError):
    """The file may be whole, and is of a format that is not read here."""


class OtherModel(BitnetError):
    """The file is a GGUF of another architecture, so not one of ours."""


@dataclass(frozen=True)
class GGUFAbout:
    """The types' names, how many tokens it reads, and what is kept of the checkpoint by name.

    `linear_types` are those of a layer's linears, by their names in the student (`gguf.LINEARS`).
    """

    linear_types: dict[str, str]
    embedding_type: str
    context: int
    origin: dict[str, Any]


def read_keys(path: Path) -> dict[str, Any]:
    """The keys of any GGUF; those with arrays are None. BitnetError for a file that is damaged or none."""
    with opened(path, "give a whole GGUF file") as data:
        return read_header(Cursor(data))[1]


def look(path: Path) -> GGUFAbout:
    """Read the head of a file of unknown origin. BitnetError for a damaged one, OtherModel for another program's."""
    with opened(path, "export it again", " of `bitnet export`") as data:
        return _about(path, data)


def require_as_written(path: Path) -> None:
    """BitnetError for a file that was changed after it was exported; one of an earlier version has no hash."""
    place = seal_place(SEAL)
    after = place + len(UNSEALED)
    with opened(path, "export it again", " of `bitnet export`") as data:
        told = read_header(Cursor(data))[1].get(SEAL)
        if told is None:
            return
        digest = hashlib.sha256(data[:place] + UNSEALED.encode())
        for start in range(after, len(data), _CHUNK_BYTES):
            digest.update(data[start : start + _CHUNK_BYTES])
    if digest.hexdigest() != told:
        raise BitnetError(f"{path} was changed after it was exported; export it again.")


@contextlib.contextmanager
def opened(path: Path, fix: str, whose: str = "") -> Iterator[mmap.mmap]:
    """The file's bytes. BitnetError for what can't be opened, or is found damaged inside the block."""
    try:
        with open_regular(path) as source:
            if not os.fstat(source.fileno()).st_size:
                raise Damaged("it is empty")
            with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as data:
                yield data
    except OtherFormat as error:
        fix = "convert its model again with llama.cpp's convert_hf_to_gguf.py"
        raise BitnetError(f"{path} can't be read ({error}); {fix}.") from error
    except (OSError, struct.error, UnicodeDecodeError, ValueError) as error:
        raise_if_not_the_file(error, path)
        raise BitnetError(f"{path} is not a whole GGUF{whose} ({_reason(error)}); {fix}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, struct.error):
        return "its end is missing"
    if isinstance(error, UnicodeDecodeError):
        return "a text in it is not UTF-8"
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


class Cursor:
    """Reads one value after another."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at, self._left = data, 0, _MOST_THINGS

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def count(self, smallest: int) -> int:
        """A number of things of at least so many bytes."""
        number = int(self.take("<Q"))
        if number * smallest > len(self.data) - self.at:
            raise Damaged("it claims more than it holds")
        return number

    def things(self, smallest: int) -> int:
        """A number of things that are read one by one."""
        number = self.count(smallest)
        self._left -= number
        if self._left < 0:
            raise Damaged("it claims more than any model has")
        return number

    def string(self) -> str:
        length = self.count(1)
        self.at += length
        return self.data[self.at - length : self.at].decode()

    def value(self, kind: int, *, keep: bool = False) -> Any:
        """A value; None for an array, which is passed over, unless it is of strings and to `keep`."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.take(self._form(kind))
        inner = self.take("<I")
        if inner == _STRING and keep:
            return [self.string() for _ in range(self.things(8))]
        if inner == _STRING:
            for _ in range(self.things(8)):
                length = self.count(1)
                self.at += length
        else:
            form = self._form(inner)
            count = self.count(struct.calcsize(form))
            self.at += count * struct.calcsize(form)
        return None

    def _form(self, kind: int) -> str:
        if kind not in _FIXED:
            raise Damaged(f"it has a value of kind {kind}")
        return _FIXED[kind]


def read_header(cursor: Cursor, lists: Container[str] = ()) -> tuple[int, dict[str, Any]]:
    """The number of tensors, and the keys; of arrays only those in `lists`. The cursor is then at the tensors."""
    if cursor.data[:4] != b"GGUF":
        raise Damaged("it does not begin as one")
    cursor.at = 4
    _require_version(cursor.take("<I"))
    tensors, count = cursor.things(1), cursor.things(1)
    keys: dict[str, Any] = {}
    for _ in range(count):
        name = cursor.string()
        if name in keys:
            raise Damaged(f"it has two values of {name!r:.60}")
        keys[name] = cursor.value(cursor.take("<I"), keep=name in lists)
    return tensors, keys


def _require_version(version: int) -> None:
    if version in _VERSIONS:
        return
    if int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS:
        raise OtherFormat("it is a big-endian GGUF")
    if not 0 < version <= _LATEST:
        raise Damaged(f"its header is damaged: it claims version {version}")
    raise OtherFormat(f"it is a GGUF of version {version}, and those of version 2 and 3 are read")


def read_tensor(cursor: Cursor) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape with rows first, number of the type, and offset among the tensors' bytes, of the next tensor."""
    name, dimensions = cursor.string(), cursor.take("<I")
    if dimensions > _MOST_DIMENSIONS:
        raise Damaged(f"a tensor has {dimensions} dimensions")
    sizes = [int(cursor.take("<Q")) for _ in range(dimensions)]
    return name, tuple(reversed(sizes)), int(cursor.take("<I")), int(cursor.take("<Q"))


def _about(path: Path, data: mmap.mmap) -> GGUFAbout:
    cursor = Cursor(data)
    tensors, keys = read_header(cursor)
    if keys.get("general.architecture") != "bitnet":
        raise OtherModel(f"{path} is a GGUF of another architecture; give one of `bitnet export gguf`.")
    types: dict[str, BlockType] = {}
    end = 0
    for _ in range(tensors):
        name, kind, tensor_end = _tensor(cursor)
        types[name] = kind
        end = max(end, tensor_end)
    if -(-cursor.at // ALIGNMENT) * ALIGNMENT + end > len(data):
        raise Damaged("its end is missing")
    if not types.keys() >= {*_FIRST_LAYER.values(), _EMBEDDING}:
        raise Damaged("it has no student's tensors")
    origin = {
        name.removeprefix(ORIGIN): value for name, value in keys.items() if name.startswith(ORIGIN) and name != SEAL
    }
    context = keys.get("bitnet.context_length")
    if type(context) is not int or context < 1:
        raise Damaged("it does not say how many tokens it reads")
    linears = {own: types[name].name for own, name in _FIRST_LAYER.items()}
    return GGUFAbout(linears, types[_EMBEDDING].name, context, origin)


def _tensor(cursor: Cursor) -> tuple[str, BlockType, int]:
    """Name, type, and where its bytes end among the tensors' bytes."""
    name, shape, number, offset = read_tensor(cursor)
    if number not in _TYPES:
        raise Damaged(f"a tensor is of type {number}")
    kind = _TYPES[number]
    return name, kind, offset + math.prod(shape) // kind.weights * kind.bytes
