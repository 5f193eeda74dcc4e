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
    pending = b""
    async for chunk in chunks:
        pending += chunk
        held = pending[-1:] if pending.endswith(b"\r") else b""  # its LF may be in the next chunk
        *lines, pending = _LINE_END.split(pending.removesuffix(held))
        pending += held
        for line in lines:
            yield line
    if pending:
        yield pending.removesuffix(b"\r")
