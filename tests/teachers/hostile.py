"""A teacher that does everything wrong, one way for each first part of its address; and a process that asks it.

`python -m tests.teachers.hostile COMMAND ADDRESS FOLDER` asks in every way and prints one JSON line at the end. Its
time limits are short, so that a teacher that never answers costs little.
"""

import contextlib
import functools
import gzip
import io
import itertools
import json
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ESCAPES = "\x1b]52;c;cHduZWQ=\x07\x1b[31m\x9b2J\u202e\u2066\x08\x00[@click=app.quit]x[/]"
JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "text/event-stream"}


def token(text: str, logprob: Any = -0.5, **more: Any) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), **more}


def answer(text: Any, content: Any, **more: Any) -> dict[str, Any]:
    choice = {"message": {"content": text}, "logprobs": content and {"content": content}, "finish_reason": "stop"}
    return {"model": "m", "choices": [choice | more], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def sound(asked: dict[str, Any], text: str = "Hi") -> dict[str, Any]:
    tops = [token(text), token("b", -2.0), token("c", -3.0)] if asked.get("logprobs") else None
    return answer(text, tops and [{**tops[0], "top_logprobs": tops}])


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def event(value: Any) -> bytes:
    return b"data: " + dumped(value) + b"\n\n"


def slowly(data: bytes) -> Iterator[bytes]:
    for byte in data:
        time.sleep(0.3)
        yield bytes([byte])


Way = Callable[[dict[str, Any]], tuple[int, dict[str, str], Iterable[bytes]]]
"""Gives the status, headers and pieces of the answer to a request."""
PIECE = event({"choices": [{"delta": {"content": "words "}, "finish_reason": None}]})
MANY = itertools.repeat(b"x" * 65536)


@functools.cache
def bomb() -> bytes:
    """Packed when it is first sent: it takes a second."""
    return gzip.compress(b" " * (1 << 27), 9)


def raw(*pieces: bytes, then: Iterable[bytes] = (), headers: dict[str, str] = JSON, status: int = 200) -> Way:
    return lambda _: (status, headers, itertools.chain(pieces, then))


def stream(*pieces: bytes, then: Iterable[bytes] = ()) -> Way:
    return raw(*pieces, then=then, headers=SSE)


def body(value: Any, status: int = 200) -> Way:
    return raw(dumped(value), status=status)


def tokens(*steps: dict[str, Any], text: str = "Hi") -> Way:
    return body(answer(text, list(steps)))


def said(text: str) -> Way:
    return lambda asked: (200, JSON, [dumped(sound(asked, text))])


SHORT_LISTS = {"tokens": ["Hi"], "token_logprobs": [], "top_logprobs": [{}]}
HUGE_NUMBER = b'{"choices": [{"message": {"content": "Hi"}}], "usage": {"prompt_tokens": ' + b"9" * 5000 + b"}}"
ODD_BODIES = [
    *(None, 5, "x", [], [[]], {"choices": 5}, {"choices": [5]}, {"choices": [{"message": 5}]}, {"error": 5}),
    *({"choices": [{"message": {"content": value}}]} for value in (5, {}, [5], [[]], {"type": ["x"]}, True)),
    *(answer("Hi", value) for value in ("x", {}, [None], [[]], [{"token": 5}])),
    answer("Hi", [{"token": "Hi", "top_logprobs": 5}]),
    *({"error": {"message": value, "code": value, "metadata": {"raw": value}}} for value in ([], {}, [[{}]], 5)),
]

WAYS: dict[str, Way] = {
    "endless-body": raw(then=MANY),
    "endless-text": raw(b'{"choices": [{"message": {"content": "', then=MANY),
    "endless-stream": stream(then=itertools.repeat(PIECE)),
    "endless-comments": stream(then=itertools.repeat(b": still here\n\n" * 1000)),
    "endless-line": stream(b"data: ", then=MANY),
    "endless-error": raw(then=MANY, status=400),
    "silent": raw(),
    "slow": lambda asked: (200, JSON, slowly(dumped(sound(asked)))),
    "slow-stream": lambda _: (200, SSE, slowly(PIECE)),
    "bomb": lambda _: (200, JSON | {"Content-Encoding": "gzip"}, [bomb()]),
    "bomb-stream": lambda _: (200, SSE | {"Content-Encoding": "gzip"}, [bomb()]),
    "unknown-packing": raw(b"x" * 100, headers=JSON | {"Content-Encoding": "br"}),
    "trailing": raw(gzip.compress(b"{}"), then=MANY, headers=JSON | {"Content-Encoding": "gzip"}),
    "empty-blocks": raw(
        gzip.compress(b"")[:10],
        then=itertools.repeat(b"\0\0\0\xff\xff" * 13000),
        headers=JSON | {"Content-Encoding": "gzip"},
    ),
    "empty-lists": raw(b'{"choices": [', then=itertools.repeat(b"[]," * 20_000)),
    "empty-objects": raw(b'{"error": [' + b"{}," * 300_000 + b"{}]}"),
    "empty-objects-error": raw(b'{"error": [' + b"{}," * 300_000 + b"{}]}", status=500),
    "garbage": raw(bytes(range(256)) * 40),
    "garbage-stream": stream(b"data: \xff\xfe{\n\n" * 10),
    "deep": raw(b"[" * 200_000),
    "deep-field": raw(b'{"choices": [{"message": ', b'{"content":' * 50_000),
    "deep-stream": stream(b"data: " + b"[" * 200_000 + b"\n\n"),
    "deep-error": body({"error": {"message": "no", "metadata": {"raw": "[" * 200_000}}}, 400),
    "control": said(f"Hi{ESCAPES}"),
    "control-error": body({"error": {"message": f"no {ESCAPES}", "code": ESCAPES}}, 400),
    "control-page": raw(f"<html>{ESCAPES}".encode(), headers={"Content-Type": "text/html"}, status=500),
    "control-stream": stream(event({"choices": [{"delta": {"content": ESCAPES}, "finish_reason": "stop"}]})),
    "surrogates": said("Hi \ud800"),
    "cut": lambda asked: (200, JSON, [dumped(sound(asked))[:40]]),
    "short-lists": body(answer("Hi", None, logprobs=SHORT_LISTS)),
    "many-tokens": tokens(*[{**token("a"), "top_logprobs": [token("a"), token("b", -3.0)]}] * 900, text="a" * 900),
    "odd-logprobs": tokens({**token("Hi", "x"), "top_logprobs": [token("Hi", [])]}),
    "odd-ids": tokens({**token("Hi", id=1e30), "top_logprobs": [token("Hi", id=-5), token("b", -3.0, id="x")]}),
    "odd-bytes": tokens({**token("Hi"), "bytes": [999, "x"], "top_logprobs": [token("Hi")]}),
    "huge-number": raw(HUGE_NUMBER),
    **{f"odd-{place}": body(value) for place, value in enumerate(ODD_BODIES)},
}


def ways_of(command: str) -> list[str]:
    """The playground asks as `chat` does, so of it only what differs is tried: what comes in pieces, and texts."""
    own = ("endless", "control", "surrogates", "slow-stream", "deep-stream", "cut")
    return [way for way in WAYS if command != "answer" or way.startswith(own)]


class HostileServer:
    """Serves `/WAY/v1/…`. Use as a context manager."""

    def __enter__(self) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.give()

            def do_POST(self) -> None:
                self.give()

            def give(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, pieces = WAYS[self.path.split("/")[1]](json.loads(sent) if sent else {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for piece in pieces:
                    self.wfile.write(piece)

            def log_message(self, *args: object) -> None:
                """Keep the test's output clean."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up is what is wanted."""

        self._server: socketserver.BaseServer = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


# -- the process that asks ------------------------------------------------------------------------------------


def ask_in_every_way(command: str, address: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Each way and how asking in it ended: a sentence, or "done"."""
    from bitnet_core.cli.main import main
    from bitnet_core.cli.output import Console
    from bitnet_core.errors import BitnetError
    from bitnet_core.runs.event_files import read_events
    from bitnet_core.stages import collect, teacher
    from tests.builders import stage_context

    prompts = folder / "prompts.txt"
    prompts.write_text("One?\nTwo?\n")
    for way in ways_of(command):
        values = {
            "PROVIDER": "custom",
            "CUSTOM_MODEL": "m",
            "CUSTOM_BASE_URL": f"{address}/{way}/v1",
            "TEACHER_PROVIDER": "custom",
            "TEACHER_TOP_LOGPROBS": "3",
            "KD_PROMPTS_FILE": str(prompts),
            "KD_NUM_PROMPTS": "2",
            "KD_MAX_TOKENS_PER_PROMPT": "16",
            "TEACHER_BASELINE_PROMPTS_FILE": str(prompts),
            "TEACHER_BASELINE_MAX_TOKENS": "16",
        }
        given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        if command in ("probe", "chat"):
            words = {"probe": ["providers", "probe", "custom"], "chat": ["chat", "hi"]}[command]
            yield way, f"exit {main([*words, *given])}"
            continue
        if command == "answer":
            with one_question():
                yield way, f"exit {main(['answer', 'teacher', *given])}"
            continue
        context = stage_context(folder / way, stage=command, values=values)
        try:
            {"teacher": teacher, "collect": collect}[command].run(context)
            outcome = "done"
        except BitnetError as error:
            outcome = str(error)
            main(["--root", str(folder), "config", "--set", f"X={error}"])  # shows the sentence
        for happened in read_events(context.run_dir / "events.jsonl"):
            Console().event(way, happened)
        yield way, outcome


@contextlib.contextmanager
def one_question() -> Iterator[None]:
    """A stdin with a question of the playground, which ends when it was answered."""
    over, stdin, stdout = threading.Event(), sys.stdin, sys.stdout
    asked = {"id": 1, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 16, "top": 3}

    class Question(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            line = super().readline(-1 if size is None else size)
            assert line or over.wait(60), "no end was told"
            return line

    class Answer(io.StringIO):
        def write(self, text: str, /) -> int:
            if json.loads(text).get("event") in ("end", "error", "gone"):
                over.set()
            return stdout.write(text)

    sys.stdin, sys.stdout = Question(json.dumps(asked) + "\n"), Answer()
    try:
        yield
    finally:
        over.set()
        sys.stdin, sys.stdout = stdin, stdout


def hurry() -> None:
    """Wait less than a second where the program waits minutes, and read the embedded teacher once."""
    from bitnet_core.stages import collect
    from bitnet_core.teachers import chat, health, neutral
    from bitnet_core.teachers.http import client

    for module, name, seconds in (
        (chat, "READ_SECONDS", 0.4),
        (chat, "WHOLE_SECONDS", 0.5),
        (client, "QUICK_SECONDS", 0.4),
        (client, "_LONGEST_BACKOFF", 0.02),
        (neutral, "QUICK_SECONDS", 0.4),
        (neutral, "_LOADING_SECONDS", 0.4),
        (health, "_OUTAGE_SECONDS", 1.0),
        (health, "_PAUSE_SECONDS", 0.1),
    ):
        assert hasattr(module, name)
        setattr(module, name, seconds)
    collect.load_tokenizer = functools.cache(collect.load_tokenizer)
    checked = collect.ensure_files()
    collect.ensure_files = lambda *_: checked


if __name__ == "__main__":
    from bitnet_core.process import peak_rss_bytes

    hurry()
    found = dict(ask_in_every_way(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    Path(sys.argv[3], "found.json").write_text(json.dumps({"outcomes": found, "peak_bytes": peak_rss_bytes()}))
