"""Server-sent events, read from the bytes of a response (WHATWG HTML, "Server-sent events"). Knows no HTTP client."""

import re
from collections.abc import AsyncIterator

_LINE_END = re.compile(rb"\r\n|\n|\r")


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The data of each event; several `data:` lines of one event are joined by line feeds."""
    data = bytearray()  # one piece, not a list: the server decides how short the lines are
    async for line in _lines(chunks):
        if line.startswith(b"data:"):
            data += line[5:].removeprefix(b" ") + b"\n"
        elif not line and data:
            yield bytes(data[:-1])
            data.clear()
    if data:
        yield bytes(data[:-1])


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
