"""An HTTP proxy on loopback that cuts requests and answers at random bytes, and says at times that it is busy.

It also counts what passes. The server never sees it: names, headers and bodies go through as they are.
"""

import contextlib
import hashlib
import http.client
import random
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

_OWN = {"connection", "keep-alive", "transfer-encoding", "content-length"}


_ANY_FOLDER = "MKCOL"
"""The subject of all requests for a folder: the first object of all may need many."""


@dataclass(frozen=True)
class Fault:
    """What happens to one request: it is cut, or its answer is, or it is answered with a status and a wait."""

    kind: Literal["request", "answer", "busy"]
    share: float = 0.5
    """How much of the request or the answer comes through."""
    reset: bool = True
    """A cut with a reset, which both ends see as an error; else an end in the usual way."""
    status: int = 503
    after: int | None = None
    """`Retry-After`, in seconds."""


@dataclass
class Faults:
    """Faults for a share of the requests, by chance but the same for a seed. At most `most` for each object.

    The bound keeps a test of chance from failing by chance: patience ends after some attempts.
    """

    seed: int
    share: float = 0.3
    most: int = 2
    waits: tuple[int | None, ...] = (None, None, 1)
    """What `Retry-After` says, drawn from these."""

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._so_far: Counter[str] = Counter()

    def draw(self, subject: str) -> Fault | None:
        chance = self._chance
        if chance.random() >= self.share or self._so_far[subject] >= self.most:
            return None
        self._so_far[subject] += 1
        kind = chance.choice(("request", "request", "answer", "busy"))
        if kind == "busy":
            return Fault("busy", status=chance.choice((429, 503)), after=chance.choice(self.waits))
        return Fault("request" if kind == "request" else "answer", chance.random(), chance.random() < 0.5)


@dataclass
class Seen:
    """What has passed, and the faults that happened."""

    requests: Counter[str] = field(default_factory=Counter)
    """By method."""
    stored: Counter[str] = field(default_factory=Counter)
    """Complete uploads that the server took, by decoded path."""
    faults: list[Fault] = field(default_factory=list)
    early: list[str] = field(default_factory=list)
    """What was asked again before `Retry-After` allowed it."""
    waited: int = 0
    """How many requests came again after a `Retry-After`."""


class FaultyProxy:
    """A proxy in front of a port of loopback; `faults` may be replaced at any time, None = it only counts."""

    def __init__(self, server_port: int, faults: Faults | None = None) -> None:
        self.faults = faults
        self.seen = Seen()
        self._server_port = server_port
        self._lock = threading.Lock()
        self._not_before: dict[str, float] = {}
        proxy = self

        class Handler(_Handler):
            def handle_request(self, body: bytes) -> None:
                proxy._handle(self, body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])

    def __enter__(self) -> "FaultyProxy":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, request: "_Handler", body: bytes) -> None:
        subject = _subject(request, body)
        fault = self._note(request, subject)
        head = request.head(body)
        if fault and fault.kind == "busy":
            with self._lock:
                if subject != _ANY_FOLDER:
                    self._not_before[subject] = time.monotonic() + (fault.after or 0)
            request.answer_busy(fault)
            return
        with socket.create_connection(("127.0.0.1", self._server_port)) as server:
            if fault and fault.kind == "request":
                whole = head + body
                # Never all of it: the server would have the whole request.
                server.sendall(whole[: int(len(whole) * fault.share)])
                _end(server, fault.reset)
                request.end(fault.reset)
                return
            server.sendall(head + body)
            answer = http.client.HTTPResponse(server, method=request.command)
            answer.begin()
            content = answer.read()
        if request.command in ("PUT", "POST") and answer.status < 300:
            with self._lock:
                self.seen.stored[unquote(urlsplit(request.path).path)] += 1
        raw = request.answer_of(answer, content)
        if fault:
            request.wfile.write(raw[: int(len(raw) * fault.share)])
            request.end(fault.reset)
        else:
            request.wfile.write(raw)

    def _note(self, request: "_Handler", subject: str) -> Fault | None:
        with self._lock:
            self.seen.requests[request.command] += 1
            due = self._not_before.pop(subject, None)
            if due is not None:
                self.seen.waited += 1
                if time.monotonic() < due:
                    self.seen.early.append(subject)
            fault = self.faults.draw(subject) if self.faults else None
            if fault:
                self.seen.faults.append(fault)
            return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_request(self, body: bytes) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def _do(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # the client is gone
            self.close_connection = True
            return
        try:
            self.handle_request(body)
        except OSError:  # an end that closed: a client that was stopped, a server that is killed
            self.close_connection = True

    def log_message(self, *_: object) -> None: ...

    def head(self, body: bytes) -> bytes:
        """The request's head as it goes to the server, on a connection of its own."""
        lines = [f"{self.command} {self.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items() if name.lower() not in (*_OWN, "expect")]
        length = [f"Content-Length: {len(body)}"] if body or self.command in ("PUT", "POST") else []
        return "\r\n".join([*lines, *length, "Connection: close", "", ""]).encode("latin-1")

    def answer_of(self, answer: http.client.HTTPResponse, content: bytes) -> bytes:
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in _OWN]
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if answer.status not in (204, 304):
            lines.append(f"Content-Length: {length or 0}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + content

    def answer_busy(self, fault: Fault) -> None:
        wait = [f"Retry-After: {fault.after}"] if fault.after is not None else []
        lines = [f"HTTP/1.1 {fault.status} Busy", *wait, "Content-Length: 0", "", ""]
        self.wfile.write("\r\n".join(lines).encode())

    def end(self, reset: bool) -> None:
        self.wfile.flush()
        _end(self.connection, reset)
        self.close_connection = True


def _end(end: socket.socket, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
        else:
            end.shutdown(socket.SHUT_RDWR)


def _subject(request: _Handler, body: bytes) -> str:
    """What a request is about: the same when it is tried again, although names of temporary files differ."""
    path = request.headers.get("Destination") or request.path
    if named := re.search(rb'"name": *"([^"]+)"', body[:1000]) if "uploadType=" in request.path else None:
        return f"upload {named[1].decode()}"  # Google's uploads have one path
    if request.command == "MKCOL":
        return _ANY_FOLDER
    if "/_temp/" in unquote(path):
        path = hashlib.sha256(body).hexdigest() if body else request.path
    return f"{request.command} {urlsplit(path).path} {urlsplit(path).query}"


@contextlib.contextmanager
def faulty(server_port: int, faults: Faults | None = None) -> Iterator[FaultyProxy]:
    """A running proxy."""
    with FaultyProxy(server_port, faults) as proxy:
        yield proxy
