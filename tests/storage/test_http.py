"""The HTTP client of the targets, against a server that breaks the rules."""

import contextlib
import datetime as dt
import socket
import threading
from collections.abc import Iterator
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bitnet_core.storage.clients.http import Http, Response, wait_of
from bitnet_core.storage.target import Refused
from tests.sockets import served

_END = b"\r\n\r\n"


@contextlib.contextmanager
def _telling_paths(more: bytes) -> Iterator[str]:
    """A server that answers each GET with its path, and sends `more` behind it."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while asked := connection.recv(1 << 16):
                while not asked.endswith(_END):
                    asked += connection.recv(1 << 16)
                path = asked.split()[1]
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s" % (len(path), path, more))

    with served(serve) as address:
        yield address


@pytest.mark.parametrize("more", [b"\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnone", b"0"])
def test_bytes_behind_a_response_are_no_response_to_the_next_request(more: bytes) -> None:
    with _telling_paths(more) as url, Http("The server") as http:
        for path in ("/first", "/second", "/third"):
            assert http.send("GET", url + path).body == path.encode()


@pytest.mark.parametrize("hours_off", [-9, -1, 0, 1, 9])
def test_a_date_to_wait_for_is_told_by_the_servers_clock(hours_off: int) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours_off)
    until = format_datetime(now + dt.timedelta(seconds=90), usegmt=True)
    wait = wait_of({"retry-after": until, "date": format_datetime(now, usegmt=True)})
    assert wait is not None
    assert 80 < wait < 95


@pytest.mark.parametrize("date", ["", "soon", "Mon, 01 Jan 99999999 00:00:00 GMT"])
def test_without_the_servers_clock_a_date_is_told_by_ours(date: str) -> None:
    until = format_datetime(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90), usegmt=True)
    assert 80 < (wait_of({"retry-after": until, "date": date}) or 0) < 95


class _Portal(BaseHTTPRequestHandler):
    """A network that wants a sign-in: it answers everything with a redirect to a page."""

    status = 302

    def do_GET(self) -> None:
        self._answer(200 if self.path == "/page" else self.status)

    def do_POST(self) -> None:
        self._answer(self.status)

    do_PUT = do_DELETE = do_MKCOL = do_MOVE = do_POST

    def _answer(self, status: int) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(status)
        self.send_header("Location", "/page")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"Hi")

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextlib.contextmanager
def _portal(handler: type[_Portal]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("method", "status"),
    [
        *(("PUT", 302), ("PUT", 303), ("DELETE", 302), ("MKCOL", 302), ("MOVE", 303)),
        *(("POST", 301), ("POST", 302), ("POST", 303)),
    ],
)
def test_a_redirect_to_a_page_stores_and_deletes_nothing(method: str, status: int) -> None:
    with _portal(type("Portal", (_Portal,), {"status": status})) as url, Http("The server") as http:
        with pytest.raises(Refused, match=f"redirects to {url}/page, where nothing .*; correct"):
            http.send(method, f"{url}/object", content=b"1")
        assert http.send("GET", f"{url}/object").body == b"Hi"


def test_the_body_of_a_redirect_is_not_read_to_its_end() -> None:
    pieces: list[int] = []

    class Endless(_Portal):
        def do_GET(self) -> None:
            if self.path == "/page":
                self._answer(200)
                return
            self.send_response(302)
            self.send_header("Location", "/page")
            self.end_headers()
            self.close_connection = True
            with contextlib.suppress(ConnectionError):
                for size in [1 << 20] * 128:
                    self.wfile.write(bytes(size))
                    pieces.append(size)

    with _portal(Endless) as url, Http("The server") as http:
        assert http.send("GET", f"{url}/object").body == b"Hi"
    assert sum(pieces) < 1 << 26  # what fits into the buffers of both ends


def test_json_that_is_larger_than_a_page_of_a_listing_is_not_decoded() -> None:
    body = b"[" + b"[]," * (3 << 20) + b"0]"
    with pytest.raises(Refused, match=r"host sent 9 MiB where it lists; check that its address is right\."):
        Response(200, body, {}, "https://host/list").json("a listing")
    assert Response(200, b"[[], 0]" + b" " * (7 << 20), {}, "https://host/list").json("a listing") == [[], 0]
