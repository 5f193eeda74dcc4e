"""What of a reply is decoded: no more values than what was asked for can have, and of an error only a little.

A text such as `[],[],[]` takes twenty times its size in memory once it is decoded, so its values are counted before.
"""

import threading
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.http.body import TooManyBytes

ERROR_BYTES = 1 << 18
"""Of a reply that is an error: some servers quote the request in it. It may be kept while its request waits."""
TOO_LARGE = "its error is larger than what is read of one"
"""Takes the place of an error that is too large."""
_ERROR_VALUES = 1 << 13
_ERROR_DEPTH = 32
BYTES_A_VALUE, BYTES_A_VALUE_IN_EVENTS = 24, 8
"""A reply may have one value for this many of its allowed bytes. Real ones have a value for 8 bytes or more, but
need a tenth of the bytes. Events need a third of them, as each repeats the names of the model and the answer."""
_SIGNS = (b"[", b"{", b",", b":")
_ONE_AT_A_TIME = threading.Lock()


class TooManyValues(TooManyBytes):
    """The body holds more values than what was asked for can have."""


class _ErrorFields(msgspec.Struct):
    """What `Reply.error` looks at if the status is 200, not decoded."""

    error: msgspec.Raw = msgspec.Raw(b"null")
    message: msgspec.Raw = msgspec.Raw(b"null")
    detail: msgspec.Raw = msgspec.Raw(b"null")


_DECODER = msgspec.json.Decoder(_ErrorFields)


def count_values(text: bytes) -> int:
    """About the number of values in a JSON text, without the first; signs in its strings count, too."""
    return sum(map(text.count, _SIGNS))


async def counted(chunks: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The same chunks of a JSON text. TooManyValues once they have more values than `most`."""
    values = 0
    async for chunk in chunks:
        values += count_values(chunk)
        if values > most:
            raise TooManyValues(f"the answer has more than {most:,} values, which is more than was asked for")
        yield chunk


def decode_error(body: bytes) -> Any:
    """The decoded body of a reply that is an error. ValueError for what is not JSON."""
    return _small_or({"message": TOO_LARGE}, body)


def decode_error_fields(body: bytes) -> Any:
    """Only the fields of an error: a good answer is decoded by its reader, once. ValueError for what is not JSON."""
    if not body.isascii():
        body.decode()  # msgspec does not check the UTF-8 of fields that it skips
    try:
        fields = msgspec.structs.asdict(_DECODER.decode(body))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        with _ONE_AT_A_TIME:
            return _error_fields_of(decode(body))
    return {name: _small_or(TOO_LARGE, memoryview(raw)) for name, raw in fields.items()}


def _error_fields_of(payload: Any) -> Any:
    if isinstance(payload, list):  # Gemini's errors
        return [_error_fields_of(one) for one in payload[:1]]
    if not isinstance(payload, dict):
        return payload
    found = {name: payload.get(name) for name in _ErrorFields.__struct_fields__}
    return {name: value if _is_small(value) else TOO_LARGE for name, value in found.items()}


def _small_or(instead: Any, text: bytes | memoryview) -> Any:
    """The decoded text, or `instead` if it is too large for an error."""
    if len(text) > ERROR_BYTES or count_values(bytes(text)) > _ERROR_VALUES:
        return instead
    value = decode(bytes(text))
    return value if _is_small(value) else instead


def _is_small(value: Any) -> bool:
    """Whether a decoded value is small and shallow enough for an error, found without recursion."""
    values, characters, level = 0, 0, [value]
    for _ in range(_ERROR_DEPTH):
        values += len(level)
        characters += sum(len(one) for one in level if isinstance(one, str))
        if not level or values > _ERROR_VALUES or characters > ERROR_BYTES:
            break
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in ((*one, *one.values()) if isinstance(one, dict) else one)
        ]
    return not level
