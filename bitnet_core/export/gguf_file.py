"""The container GGUF, version 3: a header, keys with values, the tensors' names and shapes, and their bytes.

Source: ggml's `docs/gguf.md`. It knows neither models nor tokenizers. Tensors are made one at a time while the file
is written, so that a large student needs the memory of its largest tensor alone.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bitnet_core.export.blocks import BlockType, Bytes
from bitnet_core.files import atomic_path
from bitnet_core.files.writable import writing

ALIGNMENT = 32
UNSEALED = "0" * 64
"""What stands for the file's own hash while the hash is computed."""
_VERSION = 3
_HEADER_BYTES = 24
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY, _UINT64 = 4, 5, 6, 7, 8, 9, 10


@dataclass(frozen=True)
class TensorPlan:
    """A tensor to be written: its shape with rows first, as numpy has it, and how its bytes are made."""

    name: str
    shape: tuple[int, ...]
    type: BlockType
    make: Callable[[], Bytes]

    @property
    def size(self) -> int:
        """Bytes without padding."""
        return self.type.size(math.prod(self.shape))


def write_gguf(path: Path, keys: Mapping[str, Any], tensors: Sequence[TensorPlan], *, seal: str = "") -> None:
    """Write the file, whole or not at all.

    Values are bool, int (unsigned, 32 or 64 bits, as it needs), float (32 bits), str, or a list of str, of float or
    of signed 32-bit int. `seal` is the first key: its value is the SHA-256 of the file, itself left out (`UNSEALED`).
    BitnetError when the disk is full or can't be written.
    """
    with writing(path), atomic_path(path) as temp, temp.open("w+b") as out:
        keys = ({seal: UNSEALED} if seal else {}) | dict(keys)
        out.write(b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(keys)))
        for key, value in keys.items():
            out.write(_string(key) + _typed(value))
        offset = 0
        for tensor in tensors:
            out.write(_string(tensor.name) + struct.pack("<I", len(tensor.shape)))
            out.write(struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape)))
            out.write(struct.pack("<IQ", tensor.type.number, offset))
            offset += -(-tensor.size // ALIGNMENT) * ALIGNMENT
        _pad(out)
        for tensor in tensors:
            data = tensor.make()
            if data.nbytes != tensor.size:
                raise AssertionError(f"{tensor.name} has {data.nbytes} bytes instead of {tensor.size}")
            out.write(data.reshape(-1).data)
            _pad(out)
        if seal:
            out.seek(0)
            digest = hashlib.file_digest(out, "sha256").hexdigest()
            out.seek(seal_place(seal))
            out.write(digest.encode())


def seal_place(seal: str) -> int:
    """Where the hash stands in a file that has one."""
    return _HEADER_BYTES + len(_string(seal)) + len(_typed(""))


def _pad(out: IO[bytes]) -> None:
    out.write(bytes(-out.tell() % ALIGNMENT))


def _string(text: str) -> bytes:
    data = text.encode("utf-8", errors="surrogatepass")
    return struct.pack("<Q", len(data)) + data


def _typed(value: Any) -> bytes:
    if isinstance(value, list):
        # llama.cpp reads the tokens' types as signed numbers.
        kind = _STRING if not value else _INT32 if type(value[0]) is int else _kind(value[0])
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + b"".join(_plain(kind, one) for one in value)
    return struct.pack("<I", _kind(value)) + _plain(_kind(value), value)


def _kind(value: Any) -> int:
    match value:
        case bool():
            return _BOOL
        case int():
            return _UINT64 if value >= 1 << 32 else _UINT32
        case float():
            return _FLOAT32
        case str():
            return _STRING
    raise TypeError(f"a value of GGUF can't be a {type(value).__name__}")


def _plain(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _string(value)
    formats = {_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f", _BOOL: "<?", _UINT64: "<Q"}
    return struct.pack(formats[kind], value)
