"""The stored form of an answer's body in the journal: its length, then zstd. Knows no database."""

import zlib

import pyarrow as pa

from bitnet_core.errors import lacks_memory

_ZSTD = pa.Codec("zstd", 9)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LENGTH_BYTES = 8
_MAX_BODY_BYTES = 1 << 30
"""A stored length above this means that the row is damaged."""


def pack(body: bytes) -> bytes:
    """The stored form of a body."""
    packed: bytes = _ZSTD.compress(body, asbytes=True)
    return len(body).to_bytes(_LENGTH_BYTES, "little") + packed


def unpack(packed: bytes) -> bytes | None:
    """The body; None if it can't be unpacked."""
    try:
        if packed[_LENGTH_BYTES : _LENGTH_BYTES + 4] == _ZSTD_MAGIC:
            size = int.from_bytes(packed[:_LENGTH_BYTES], "little")
            if size > _MAX_BODY_BYTES:
                return None
            found: bytes = _ZSTD.decompress(packed[_LENGTH_BYTES:], size, asbytes=True)
            return found
        return zlib.decompress(packed)  # how the first versions stored bodies
    except (zlib.error, OSError, pa.ArrowException) as error:
        if lacks_memory(error):  # the answer is sound and paid for
            raise
        return None
