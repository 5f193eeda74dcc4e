"""Reads one HTTP request from a connection, in bounded memory and time."""

import asyncio

import h11

from bitnet_core.serving.request import Refused

SHARE = 1 << 16
SHARE_SECONDS = 60.0
"""For each share of a body, or of an answer: a link of 10 kbit/s is fast enough."""
_HEAD_BYTES = 1 << 14
_HEAD_SECONDS = 20.0


class Incoming:
    """First its head, then its body. TimeoutError for a client that is too slow, EOFError for one that is gone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)

    async def head(self) -> h11.Request:
        """Refused if it is none of HTTP, or too long."""
        async with asyncio.timeout(_HEAD_SECONDS):
            event = await self._next()
        if not isinstance(event, h11.Request):
            raise EOFError
        return event

    async def body(self) -> bytes:
        """As long as its head says."""
        body, whole = bytearray(), 0
        if self._http.they_are_waiting_for_100_continue:
            told = self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            self._writer.write(told or b"")
        async with asyncio.timeout(SHARE_SECONDS) as limit:
            while isinstance(event := await self._next(), h11.Data):
                body += event.data
                if len(body) // SHARE > whole:
                    whole = len(body) // SHARE
                    limit.reschedule(asyncio.get_running_loop().time() + SHARE_SECONDS)
        return bytes(body)

    async def _next(self) -> object:
        """An event of h11."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._reader.read(_HEAD_BYTES))
        except h11.RemoteProtocolError as error:
            if self._reader.at_eof():
                raise EOFError from None
            if error.error_status_hint == 431:
                raise Refused(431, f"The request's head is longer than {_HEAD_BYTES:,} bytes.") from None
            raise Refused(error.error_status_hint, "This is not an HTTP/1.1 request.") from None
        return event
