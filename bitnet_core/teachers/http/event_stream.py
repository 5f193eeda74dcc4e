"""Server-sent events, read from the bytes of a response (WHATWG HTML, "Server-sent events"). Knows no HTTP client."""

import json
import re
from collections.abc import AsyncIterator

from bitnet_core.teachers.answers.json_body import decode

_ERROR = b"error"
_BOM = b"\xef\xbb\xbf"
_OTHER_FIELDS = (b":", b"id:", b"retry:")
"""The fields that carry no data; a comment has no name."""
_LINE_END = re.compile(rb"\r\n|\n|\r")


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event; several `data:` lines of one event are joined by line feeds.

    That of an event named `error` is an object with the field `error`, whatever the server wrote there. A line that
    is no field of the format but may hold a piece of the answer counts as data: it would be lost without a word.
    """
    data = bytearray()  # one piece, not a list: the server decides how short the lines are
    name = b""
    async for line in _lines(chunks):
        line = line.removeprefix(_BOM)  # before the first event, and before each that a gateway has joined to it
        if line.startswith(b"data:"):
            data += line[5:].removeprefix(b" ") + b"\n"
        elif line.startswith(b"event:"):
            name = line[6:].strip()
        elif not line:
            if data:
                yield _as_error(bytes(data[:-1])) if name == _ERROR else bytes(data[:-1])
            data.clear()
            name = b""
        elif b"{" in line and not line.startswith(_OTHER_FIELDS):
            data += line + b"\n"
    if data:
        yield _as_error(bytes(data[:-1])) if name == _ERROR else bytes(data[:-1])


def _as_error(data: bytes) -> bytes:
    try:
        said = decode(data)
    except ValueError:
        return json.dumps({"error": data.decode(errors="replace")}).encode()
    return data if isinstance(said, dict) and said.get("error") else b'{"error": ' + data + b"}"


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines ended by LF, CR or both; any other line separator of Unicode belongs to the text."""
    pending = bytearray()  # of a line without an end
    after_cr = False
    async for chunk in chunks:
        if not chunk:
            continue
        if after_cr:
            chunk = chunk.removeprefix(b"\n")  # the CR before it has ended the line
        after_cr = chunk.endswith(b"\r")
        first, *others = _LINE_END.split(chunk)
        pending += first
        for line in others:
            yield bytes(pending)
            pending = bytearray(line)
    if pending:
        yield bytes(pending)
