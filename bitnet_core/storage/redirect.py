"""Wait on this machine for the browser that comes back from a login page. Knows no service."""

import contextlib
import queue
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import compare_digest
from threading import Thread
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from bitnet_core.errors import explained
from bitnet_core.storage.target import Refused

_PAGE = "<!doctype html><meta charset=utf-8><title>bitnet</title><p>{}</p>"
_DONE = _PAGE.format("bitnet has the answer. You can close this page.")
_FOREIGN = _PAGE.format("This page does not belong to the login that bitnet waits for.")


class Redirect:
    """A page at `url`, on loopback only, until the context ends. Refused if its port is in use.

    The first visit with the right state and an answer counts. Every other visit (a wrong state, a reload, an icon) is
    answered with a page and changes nothing.
    """

    def __init__(self, url: str, state: str) -> None:
        port = urlsplit(url).port or 0
        self._answers: queue.Queue[Mapping[str, str]] = queue.Queue(maxsize=1)
        try:
            self._server = _Server(port, state, self._answers)
        except OSError as error:
            why = explained(error, "close the program that uses it, such as another login")
            raise Refused(f"Port {port} is needed for the login and can't be used {why}.") from error
        self.url = url if port else url.replace(":0", f":{self._server.server_port}", 1)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> "Redirect":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, seconds: float) -> Mapping[str, str]:
        """The answer: `code`, or `error`. TimeoutError if none comes."""
        try:
            return self._answers.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, state: str, answers: "queue.Queue[Mapping[str, str]]") -> None:
        super().__init__(("127.0.0.1", port), _Visit)
        self.state = state
        self.answers = answers

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a visitor that hangs up."""


class _Visit(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10

    def do_GET(self) -> None:
        visited = urlsplit(self.path)
        given = {name: values[-1] for name, values in parse_qs(visited.query).items()}
        if visited.path != "/" or not self._is_ours(given):
            self._show(404 if visited.path != "/" else 400, _FOREIGN)
            return
        with contextlib.suppress(queue.Full):  # a reload, or another visitor with the same address
            self.server.answers.put_nowait(given)
        self._show(200, _DONE)

    def _is_ours(self, given: Mapping[str, str]) -> bool:
        # A page of another site that has bound its name to this address sends that name.
        host = self.headers.get("Host", "").rpartition(":")[0]
        right = compare_digest(given.get("state", "").encode(), self.server.state.encode())
        return host in ("127.0.0.1", "localhost") and right and ("code" in given or "error" in given)

    def _show(self, status: int, page: str) -> None:
        body = page.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet: the address holds a code."""
