"""Serves the app to a browser on this machine: a page, the files of textual-serve's terminal, and a websocket.

Each page that is opened starts an app of its own, which ends with it; the stages that it started go on.
"""

import asyncio
import contextlib
import errno
import logging
import resource
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from string import Template
from typing import Any

import textual_serve
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

from bitnet_core.errors import UsageError
from bitnet_core.process import python
from bitnet_tui.web.gate import COOKIE, Gate

_END_SECONDS = 5.0
_URGE_SECONDS = 1.5
"""How long the app of a page that is closed is waited for before it is urged to end."""
_SILENT_SECONDS = 10.0
"""How long a connection may take to make its first request."""
_IDLE_SECONDS = 75.0
"""How long the browser's connections are kept between requests."""
_MOST_PAGES = 8
_OPEN_FILES = 64
"""Enough for as many pages. With next to none, the loop itself can't be made, and says so while it is taken down."""
_PAGE = Template((Path(__file__).parent / "page.html").read_text("utf-8"))
_FOLDER = Path(textual_serve.__file__).parent / "static"
_FILES = {
    "xterm.css": ("css/xterm.css", "text/css"),
    "textual.js": ("js/textual.js", "text/javascript"),
    "mono.ttf": ("fonts/RobotoMono-VariableFont_wght.ttf", "font/ttf"),
}
"""The files that are served, by their names here; no other path is one."""
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "font-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_REFUSED = (
    "This page needs the address that bitnet-tui --web has printed. It works once; start it again for another.\n"
)


class GuardedServer:
    """Answers only who has come through the gate. `command` is what starts the app of a page."""

    def __init__(self, command: list[str], gate: Gate) -> None:
        self.gate = gate
        self._command = "exec " + shlex.join(command)
        self._downloads = DownloadManager()
        self._open: set[web.WebSocketResponse] = set()
        self._ending: set[asyncio.Task[None]] = set()
        """The apps of pages that are closed."""
        self._silent: set[web.RequestHandler[web.Request]] = set()
        """Connections that have made no request yet."""

    @contextlib.asynccontextmanager
    async def listening(self, listener: socket.socket) -> AsyncIterator[None]:
        """Serve whoever connects, and close a connection that asks for nothing."""
        loop = asyncio.get_running_loop()
        runner = web.AppRunner(
            await self.application(),
            access_log=None,
            keepalive_timeout=_IDLE_SECONDS,
            shutdown_timeout=_END_SECONDS,
            handler_cancellation=True,  # when a page is gone; one that waits for its app would not notice
        )
        await runner.setup()
        handler = runner.server
        if handler is None:
            raise AssertionError("the application is not set up")

        def connection() -> "web.RequestHandler[web.Request]":
            made = handler()
            self._silent.add(made)
            loop.call_later(_SILENT_SECONDS, self._close_if_silent, made)
            return made

        try:
            server = await loop.create_server(connection, sock=listener)
            try:
                yield
            finally:
                server.close()  # no `async with`: that waits for the connections, which only the next line closes
        finally:
            await runner.cleanup()
            await asyncio.gather(*self._ending)

    def _close_if_silent(self, connection: "web.RequestHandler[web.Request]") -> None:
        if connection in self._silent:
            self._silent.discard(connection)
            connection.force_close()

    async def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        path = self.gate.path
        app.add_routes(
            [
                web.get(path, self._page),
                web.get(f"{path}ws", self._socket),
                *(web.get(path + name, self._file) for name in _FILES),
            ]
        )
        app.on_shutdown.append(self._close_pages)
        return app

    @property
    def _guard(self):  # type: ignore[no-untyped-def] # the decorator's type is aiohttp's own
        gate = self.gate

        @web.middleware
        async def guard(request, handler):  # type: ignore[no-untyped-def]
            self._silent.discard(request.protocol)
            origin, is_socket = request.headers.get("Origin"), request.path == f"{gate.path}ws"
            if not gate.is_own_host(request.headers.get("Host")):
                return _refusal()
            if (origin is not None or is_socket) and not gate.is_own_origin(origin):
                return _refusal()
            if not gate.knows(request.cookies.get(COOKIE)):
                if request.path == gate.path and gate.redeem(request.query.get("token")):
                    answer = web.Response(status=303, headers={"Location": gate.path, **_HEADERS})
                    answer.set_cookie(COOKIE, gate.session, path=gate.path, httponly=True, samesite="Strict")
                    return answer
                return _refusal()
            return await handler(request)

        return guard

    async def _page(self, request: web.Request) -> web.Response:
        host = request.headers["Host"]
        text = _PAGE.substitute(path=self.gate.path, socket=f"ws://{host}{self.gate.path}ws")
        return web.Response(text=text, content_type="text/html", headers=_HEADERS)

    async def _file(self, request: web.Request) -> web.StreamResponse:
        name, kind = _FILES[request.path.removeprefix(self.gate.path)]
        return web.Response(body=(_FOLDER / name).read_bytes(), content_type=kind, headers=_HEADERS)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """The screen and the keys of one page."""
        if len(self._open) >= _MOST_PAGES:
            raise web.HTTPServiceUnavailable(text="Too many pages are open; close one.\n")
        connection = web.WebSocketResponse(heartbeat=15)
        self._open.add(connection)  # before the first wait: others are let in meanwhile
        try:
            await connection.prepare(request)
            await self._show(request, connection)
        finally:
            self._open.discard(connection)
        return connection

    async def _show(self, request: web.Request, connection: web.WebSocketResponse) -> None:
        """Start an app, and pass on what it draws and what is typed, until one of them ends."""
        page = AppService(
            self._command,
            write_bytes=connection.send_bytes,
            write_str=connection.send_str,
            close=connection.close,
            download_manager=self._downloads,
        )
        try:
            await page.start(_cells(request.query.get("width"), 80), _cells(request.query.get("height"), 24))
            async for message in connection:
                await _heed(message.json(), page, connection)
        except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
            await connection.close()  # what no terminal sends
        finally:
            self._ending.add(ending := asyncio.create_task(_end(page)))
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)  # a lost connection cancels what waits here

    async def _close_pages(self, _: web.Application) -> None:
        for connection in set(self._open):
            if connection.prepared:
                await connection.close()


async def _heed(message: Any, page: AppService, connection: web.WebSocketResponse) -> None:
    """Pass on what a page's terminal says: a list of its kind and its content."""
    kind: Any = message[0]
    content: Any = message[1] if len(message) > 1 else None
    if kind == "stdin":
        await page.send_bytes(content.encode(errors="replace"))  # a paste may hold half a character
    elif kind == "resize":
        await page.set_terminal_size(_cells(content["width"], 80), _cells(content["height"], 24))
    elif kind == "ping":
        await connection.send_json(["pong", str(content)])
    elif kind == "focus":
        await page.focus()
    elif kind == "blur":
        await page.blur()


class _OwnFaultsOnly(logging.Filter):
    """Lets tracebacks of bugs through: what a stranger sends is no bug, nor are more connections than files."""

    _is_crowded = False

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            if not self._is_crowded:
                self._is_crowded = True
                why = f"too many connections are open ({error.strerror})"
                sys.stderr.write(f"bitnet-tui: {why}; others wait until some are closed.\n")
            return False
        return not isinstance(error, HttpProcessingError)


def _cells(value: object, otherwise: int) -> int:
    """A side of a terminal: a whole number, at most a thousand."""
    text = str(value)
    return min(max(1, int(text)), 1000) if text.isascii() and text.isdigit() and len(text) < 9 else otherwise


async def _end(page: AppService) -> None:
    """Ask the app to end, then tell it by a signal, which overtakes what is typed, and at last kill it.

    Meanwhile what it draws is read: else it would wait for that.
    """
    process, showing = page._process, page._task
    if process is None or showing is None:
        return
    showing.cancel()
    await asyncio.wait([showing])
    page.stdin.close()
    ending = asyncio.create_task(process.communicate())
    for urge in (process.terminate, process.kill):
        if (await asyncio.wait([ending], timeout=_URGE_SECONDS))[0]:
            break
        with contextlib.suppress(ProcessLookupError):
            urge()
    if (await asyncio.wait([ending], timeout=_URGE_SECONDS))[0]:
        sys.stderr.write(ending.result()[1].decode(errors="replace"))
    else:
        ending.cancel()


def _refusal() -> web.Response:
    answer = web.Response(status=403, text=_REFUSED, headers=_HEADERS)
    answer.force_close()
    return answer


def serve(arguments: list[str], port: int) -> int:
    """Serve `bitnet-tui` with these arguments until SIGINT or SIGTERM; 0 is a free port. Binds 127.0.0.1 alone."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= allowed < _OPEN_FILES:  # negative: any number
        raise UsageError(
            f"bitnet-tui --web opens up to {_OPEN_FILES} files at once, and {allowed} are allowed; "
            f"raise the limit with `ulimit -n {_OPEN_FILES}`."
        )
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # so that nobody is refused who opens the address at once
    except OSError as error:
        listener.close()
        raise UsageError(f"Port {port} can't be used ({error.strerror}); give --port another one.") from error
    gate = Gate(listener.getsockname()[1])
    server = GuardedServer(python("bitnet_tui", *arguments), gate)
    sys.stdout.write(
        f"Open {gate.address}\n"
        "The address works once, in one browser on this machine; Ctrl-C ends it, and runs continue.\n"
        f"From another machine, first: ssh -L {gate.port}:127.0.0.1:{gate.port} THIS_MACHINE\n"
    )
    sys.stdout.flush()
    faults = _OwnFaultsOnly()
    for name in ("aiohttp.server", "asyncio"):
        logging.getLogger(name).addFilter(faults)
    asyncio.run(_until_stopped(server, listener))
    return 0


async def _until_stopped(server: GuardedServer, listener: socket.socket) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with server.listening(listener):
        await stopped.wait()
