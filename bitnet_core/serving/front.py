"""The HTTP server in front of llama.cpp: it reads each request whole, passes it on, and passes the answer back.

llama.cpp gets only what `question.py` lets through, and no more requests at once than it can use. If it exits, the
requests that it was answering are sent again one by one, and the one that makes it exit again is refused.
"""

import asyncio
import contextlib
import http
import socket
from collections.abc import AsyncIterator, Iterator

import orjson

from bitnet_core.serving.incoming import SHARE, SHARE_SECONDS, Incoming
from bitnet_core.serving.kept_up import KeptUp
from bitnet_core.serving.question import rewritten
from bitnet_core.serving.request import Gate, Head, Refused
from bitnet_core.serving.room import Room
from bitnet_core.serving.waiting import Waiting

_LEAST_BODY, _BYTES_A_TOKEN = 1 << 20, 32
"""A body may take so many bytes, and so many for each token of the context where that is more."""
_MOST_HELD = 1 << 27
"""Bytes of all requests that are read or answered."""
_MOST_ASKED = 256
_MOST_UNREAD = 1 << 20
"""Bytes of an answer that are kept for a slow client, so that llama.cpp need not wait for it."""
_LINGER_SECONDS = 2.0


class Front:
    """`api_key` is llama.cpp's own, which no client knows. `parallel` answers at once share `context` tokens."""

    def __init__(self, gate: Gate, behind: KeptUp, *, api_key: str, parallel: int, context: int) -> None:
        self._gate = gate
        self._behind = behind
        self._api_key = api_key
        self._longest = max(_LEAST_BODY, context * _BYTES_A_TOKEN)
        self._waiting = Waiting()
        self._passed_on = 2 * parallel  # the next question is there when an answer ends
        self._free = asyncio.Semaphore(self._passed_on)
        # llama.cpp takes 100 MiB for a request of 1 MiB before it finds that its context is shorter.
        self._room = Room(self._longest)
        self._alone = asyncio.Lock()
        self._held = self._asked = 0

    async def serve(self, listener: socket.socket) -> None:
        """Until it is cancelled."""
        server = await asyncio.start_server(self._connection, sock=listener)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except Refused as refused:
            await _refuse(refused, reader, writer)
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            # The client is gone or too slow, llama.cpp ended in the middle of an answer, or this server ends. asyncio
            # would write a traceback about a connection whose task is cancelled.
            writer.transport.abort()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = (writer.get_extra_info("peername") or ("",))[0]
        with contextlib.ExitStack() as held:
            with self._waiting.kept(client, writer.transport):
                incoming = Incoming(reader, writer)
                head = self._gate.admit(await incoming.head())
                if head.length > self._longest:
                    raise Refused(413, f"The body is longer than {self._longest:,} bytes; make it shorter.")
                held.enter_context(self._holding(head.length))
                body = await incoming.body()
            if head.path == "/health":
                await self._behind.address()
                _write(writer, 200, {"status": "ok"})
                await writer.drain()
                return
            question = rewritten(body) if head.method == "POST" else b""
            async with _until_gone(reader):
                await self._pass_on(head, question, writer)
                await _taken(writer)

    @contextlib.contextmanager
    def _holding(self, length: int) -> Iterator[None]:
        if self._asked >= _MOST_ASKED or self._held + length > _MOST_HELD:
            raise Refused(503, "Too many requests are waiting; ask again later.")
        self._asked, self._held = self._asked + 1, self._held + length
        try:
            yield
        finally:
            self._asked, self._held = self._asked - 1, self._held - length

    async def _pass_on(self, head: Head, question: bytes, writer: asyncio.StreamWriter) -> None:
        async with self._free, self._room.taken(len(question)):
            if await self._exchange(head, question, writer):
                return
        await self._behind.settle()
        async with self._alone, contextlib.AsyncExitStack() as others:
            for _ in range(self._passed_on):
                await others.enter_async_context(self._free)
            if not await self._exchange(head, question, writer):
                raise Refused(400, "This request makes llama.cpp exit; change it.")

    async def _exchange(self, head: Head, question: bytes, writer: asyncio.StreamWriter) -> bool:
        """Ask llama.cpp, and write what it says. False if it ended without a word."""
        host, port = await self._behind.address()
        try:
            answers, asks = await asyncio.open_connection(host, port)
        except OSError:
            return False
        try:
            fields = (
                f"{head.method} {head.path} HTTP/1.1",
                f"Host: {host}:{port}",
                "Authorization: Bearer " + self._api_key,
                "Content-Type: application/json",
                f"Content-Length: {len(question)}",
                "Connection: close",
            )
            asks.write("\r\n".join((*fields, "", "")).encode() + question)
            said = False
            with contextlib.suppress(ConnectionError):
                while share := await answers.read(SHARE):
                    said = True
                    writer.write(share)
                    await _taken(writer, _MOST_UNREAD)
            return said
        finally:
            asks.transport.abort()


@contextlib.asynccontextmanager
async def _until_gone(reader: asyncio.StreamReader) -> AsyncIterator[None]:
    """Cancel this task when the client closes its connection: the answer is not wanted any more."""
    asked = asyncio.current_task()

    async def watch() -> None:
        with contextlib.suppress(OSError):
            if await reader.read(1):
                return  # another request, which is not answered: each answer ends the connection
        if asked is not None:
            asked.cancel()

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])  # a stream has one reader at a time


async def _taken(writer: asyncio.StreamWriter, most_left: int = 0) -> None:
    """Wait until the client has taken all but so many bytes. TimeoutError if it takes no share in its time."""
    while (left := writer.transport.get_write_buffer_size()) > most_left:
        goal = max(most_left, left - SHARE)
        writer.transport.set_write_buffer_limits(high=goal, low=goal)
        await asyncio.wait_for(writer.drain(), SHARE_SECONDS)


async def _refuse(refused: Refused, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say why, and read what the client still sends for a moment: else the answer may not reach it."""
    with contextlib.suppress(OSError, TimeoutError):
        _write(writer, refused.status, {"error": {"code": refused.status, "message": str(refused)}})
        writer.write_eof()
        async with asyncio.timeout(_LINGER_SECONDS):
            while await reader.read(SHARE):
                pass


def _write(writer: asyncio.StreamWriter, status: int, told: object) -> None:
    body = orjson.dumps(told)
    wait = "Retry-After: 1\r\n" if status == http.HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n{wait}"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    writer.write(head.encode() + body)
