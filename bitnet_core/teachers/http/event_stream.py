"""Server-sent events, read from the bytes of a response (WHATWG HTML, "Server-sent events"). Knows no HTTP client."""

import re
from collections.abc import AsyncIterator

_LINE_END = re.compile(rb"\r\n|\n|\r")


async def event_data(chunks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """The data of each event; several `data:` lines of one event are joined by line feeds."""
    data: list[str] = []
    async for line in _lines(chunks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode("utf-8", errors="replace"))
        elif not line and data:
            yield "\n".join(data)
            data = []
    if data:
        yield "\n".join(data)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines ended by LF, CR or both; any other line separator of Unicode belongs to the text."""
    pending: list[bytes] = []  # of a line without an end; joined once, as it may be long
    after_cr = False
    async for chunk in chunks:
        if not chunk:
            continue
        if after_cr:
            chunk = chunk.removeprefix(b"\n")  # the CR before it has ended the line
        after_cr = chunk.endswith(b"\r")
        first, *others = _LINE_END.split(chunk)
        pending.append(first)
        for line in others:
            yield b"".join(pending)
            pending = [line]
    if last := b"".join(pending):
        yield last
