"""Read a response's body within a limit of bytes, whatever it says of its length and however it is packed.

Knows no HTTP client. A small compressed body may unpack to gigabytes, and a large one to nothing, so it is unpacked
here, piece by piece, and both sizes are limited.
"""

import zlib
from collections.abc import AsyncIterator

from bitnet_core.text import flat, size

ACCEPTED = "gzip, deflate"
"""The compressions that are asked for."""
_GZIP, _ZLIB, _RAW = zlib.MAX_WBITS | 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
_GZIP_START = 0x1F
_SHOWN = 40
_MOST_OVERHEAD = 1 << 16
"""How much larger than its content a compressed body may be."""


class TooManyBytes(Exception):
    """The body is larger than what was asked for can be."""


class NotDecompressed(Exception):
    """The body's compression is broken, or is not one that was asked for; the message is a clause that says so."""


async def body_chunks(raw: AsyncIterator[bytes], encoding: str, most_bytes: int) -> AsyncIterator[bytes]:
    """The body's bytes, unpacked. TooManyBytes once there are more than `most_bytes`; NotDecompressed."""
    unpacker = _unpacker(encoding.strip().lower())
    left, left_packed = most_bytes, most_bytes + _MOST_OVERHEAD
    async for chunk in raw:
        left_packed -= len(chunk)
        data = unpacker.unpack(chunk, left + 1) if unpacker else chunk
        left -= len(data)
        if min(left, left_packed) < 0:
            raise TooManyBytes(f"the answer is larger than {size(most_bytes)}, which is more than was asked for")
        yield data


def _unpacker(encoding: str) -> "_Unpacker | None":
    packed = [name for name in map(str.strip, encoding.split(",")) if name not in ("", "identity")]
    if not packed:
        return None
    if packed not in (["gzip"], ["x-gzip"], ["deflate"]):
        raise NotDecompressed(f"the answer is packed as {flat(encoding)[:_SHOWN]}, which was not asked for")
    return _Unpacker()


class _Unpacker:
    """Unpacks a body: a deflate stream, with zlib's frame or without one, or gzip members one after another.

    Its first bytes show which, as some servers name it wrongly. What follows its end is passed over.
    """

    def __init__(self) -> None:
        self._stream: zlib._Decompress | None = None
        self._start = b""
        """The first bytes, while they are too few to tell the formats apart."""
        self._members = False
        self._ended = False

    def unpack(self, packed: bytes, most_bytes: int) -> bytes:
        """At most `most_bytes` of the content."""
        found = bytearray()
        while packed and not self._ended and len(found) < most_bytes:
            if self._stream is None:
                packed = self._begin(packed)
                continue
            try:
                found += self._stream.decompress(packed, most_bytes - len(found))
            except zlib.error as error:
                raise NotDecompressed("the answer can't be decompressed") from error
            packed = self._stream.unused_data
            if self._stream.eof:
                self._stream, self._ended = None, not self._members
        return bytes(found)

    def _begin(self, packed: bytes) -> bytes:
        """Begin a stream if there are enough bytes to know its format. Returns the bytes to unpack."""
        if self._members:
            packed = packed.lstrip(b"\0")  # members may be padded
            self._ended = packed[:1] not in (b"", bytes([_GZIP_START]))
            if packed and not self._ended:
                self._stream = zlib.decompressobj(_GZIP)
            return packed
        self._start += packed
        if len(self._start) < 2:
            return b""
        first, second = self._start[:2]
        self._members = first == _GZIP_START
        framed = first & 0x0F == zlib.DEFLATED and (first << 8 | second) % 31 == 0
        self._stream = zlib.decompressobj(_GZIP if self._members else _ZLIB if framed else _RAW)
        return self._start
