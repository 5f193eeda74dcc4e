"""A real HTTP server on this machine that gives the answers of a test and records the requests."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from bitnet_core.teachers.answers.body import read_chat_completion
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.tokenizer.steps import TeacherStep, TokenTable

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Canned:
    """One answer. A `body` of bytes is sent as it is, any other as JSON."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    """Close the connection in the middle of the body."""


@dataclass(frozen=True)
class Asked:
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class ChatServer:
    """Calls `answer` from several threads with the number of each request and the request."""

    def __init__(self, answer: Callable[[int, Asked], Canned]) -> None:
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._answer = answer
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                with contextlib.suppress(ConnectionError):
                    outer._serve(self)

            def do_POST(self) -> None:
                # Some tests kill the client in the middle of an answer.
                with contextlib.suppress(ConnectionError):
                    outer._serve(self)

            def log_message(self, *args: object) -> None:
                """Keep the test's output clean."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> "ChatServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def refuse_connections(self) -> None:
        """Accept no more connections; requests under way are still answered."""
        self._server.shutdown()
        self._server.socket.close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length", 0))
        sent = handler.rfile.read(length)
        if len(sent) < length:  # the client was killed while it was sending
            handler.close_connection = True
            return
        body = json.loads(sent) if sent else {}
        asked = Asked(handler.path, dict(handler.headers), body)
        with self._lock:
            number = len(self.asked)
            self.asked.append(asked)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            canned = self._answer(number, asked)
        finally:
            with self._lock:
                self._at_once -= 1
        data = canned.body if isinstance(canned.body, bytes) else json.dumps(canned.body).encode()
        handler.send_response(canned.status)
        for name, value in {"Content-Type": "application/json", **canned.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        if canned.hang_up:
            handler.wfile.write(data[: len(data) // 2])
            handler.close_connection = True
        else:
            handler.wfile.write(data)


@contextlib.contextmanager
def serving(*answers: Canned) -> Iterator[ChatServer]:
    """A server that gives the answers in turn, and the last one again and again."""

    def answer(number: int, _asked: Asked) -> Canned:
        return answers[min(number, len(answers) - 1)]

    with ChatServer(answer) as server:
        yield server


def canned(name: str, status: int = 200, **more: Any) -> Canned:
    """The answer in a file of `fixtures`."""
    kind = {".json": "application/json", ".html": "text/html", ".sse": "text/event-stream"}[Path(name).suffix]
    return Canned((FIXTURES / name).read_bytes(), status, {"Content-Type": kind}, **more)


def entry(text: str, logprob: float, *, index: int | None = None, data: bytes | None = None) -> dict[str, Any]:
    """One token in OpenAI's format; with `index` also llama.cpp's `id`."""
    found: dict[str, Any] = {
        "token": text,
        "logprob": logprob,
        "bytes": list(text.encode() if data is None else data),
    }
    return found if index is None else {"id": index, **found}


def chat_body(text: str, content: list[dict[str, Any]] | None, **more: Any) -> dict[str, Any]:
    """A complete answer in OpenAI's format."""
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": more.pop("finish_reason", "stop"),
        "logprobs": None if content is None else {"content": content, "refusal": None},
    }
    usage = {"prompt_tokens": 5, "completion_tokens": len(content or ()), "total_tokens": 5 + len(content or ())}
    return {"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage, **more}


def read_payload(payload: Any, table: TokenTable | None = None) -> ChatResult:
    """The answer in a decoded body of OpenAI's shape."""
    return read_chat_completion(json.dumps(payload).encode(), TokenTable() if table is None else table)


def steps_of(result: ChatResult) -> list[TeacherStep]:
    """The steps of an answer that has some."""
    assert result.steps is not None
    return [result.steps.step(row) for row in range(len(result.steps))]


def with_top(token: dict[str, Any], *top: dict[str, Any]) -> dict[str, Any]:
    """A token of `entry` with its candidates."""
    return {**token, "top_logprobs": list(top)}
