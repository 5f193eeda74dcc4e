"""Read a response's body within a limit of bytes, whatever it says of its length and however it is packed.

Knows no HTTP client. A small compressed body may unpack to gigabytes, so it is unpacked here, piece by piece.
"""

import zlib
from collections.abc import AsyncIterator

from bitnet_core.text import size

ACCEPTED = "gzip, deflate"
"""The compressions that are asked for."""
_AUTOMATIC = zlib.MAX_WBITS | 32
"""Tells gzip and zlib apart by their first bytes."""


class TooManyBytes(Exception):
    """The body is larger than what was asked for can be."""


class NotDecompressed(Exception):
    """The body's compression is broken, or is not one that was asked for."""


async def body_chunks(raw: AsyncIterator[bytes], encoding: str, most_bytes: int) -> AsyncIterator[bytes]:
    """The body's bytes, unpacked. TooManyBytes once there are more than `most_bytes`; NotDecompressed."""
    packed = encoding.strip().lower() not in ("", "identity")
    if packed and encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise NotDecompressed
    unpacker = zlib.decompressobj(_AUTOMATIC)
    left = most_bytes
    async for chunk in raw:
        data = _unpacked(unpacker, chunk, left + 1) if packed else chunk
        left -= len(data)
        if left < 0:
            raise TooManyBytes(f"the answer is larger than {size(most_bytes)}, which is more than was asked for")
        yield data


def _unpacked(unpacker: "zlib._Decompress", chunk: bytes, most_bytes: int) -> bytes:
    try:
        return unpacker.decompress(chunk, most_bytes)
    except zlib.error as error:
        raise NotDecompressed from error
