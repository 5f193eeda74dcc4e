"""The server in front of llama.cpp, here before one that ends when it is asked to."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx
import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.serving import front, incoming, waiting
from bitnet_core.serving.kept_up import KeptUp
from tests.serving.fronted import fronted

DEADLY, SLOW, LONG = "end", "slow", "long"


class Mortal:
    """What stands for a LlamaServer. It ends at the prompt DEADLY, takes a minute for SLOW, and a lot for LONG."""

    api_key = "inner"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.most_bytes = self._bytes = 0
        """Of all requests that it has had at once."""
        self._holding = threading.Lock()
        self.starts = 0
        self.start()

    def start(self) -> None:
        self.starts += 1
        self._ended = threading.Event()
        self._listening = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._listening.server_port}/v1"
        threading.Thread(target=self._listening.serve_forever, args=(0.01,), daemon=True).start()

    def hold(self, size: int) -> None:
        with self._holding:
            self._bytes += size
            self.most_bytes = max(self.most_bytes, self._bytes)

    def alive(self) -> bool:
        return not self._ended.is_set()

    def wait(self) -> int:
        return -11

    def close(self) -> None:
        self._ended.set()
        self._listening.shutdown()
        self._listening.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        owner, ended = self, self._ended

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.headers["Authorization"] == "Bearer inner"
                assert "Origin" not in self.headers
                prompt = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["prompt"]
                owner.asked.append(prompt[:9])
                owner.hold(len(prompt))
                try:
                    self._answer(prompt)
                finally:
                    owner.hold(-len(prompt))

            def _answer(self, prompt: str) -> None:
                if prompt == DEADLY:
                    ended.set()
                if ended.wait(60 if prompt == SLOW else 0.1):
                    return
                body = json.dumps({"text": prompt}).encode() * (1 << 19 if prompt == LONG else 1)
                with contextlib.suppress(OSError):
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

            def log_message(self, *_: object) -> None: ...

        return Handler


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    server = Mortal()
    yield server
    server.close()


def ask(url: str, prompt: str) -> httpx.Response:
    return httpx.post(f"{url}/completions", json={"prompt": prompt}, timeout=30)


def connect(url: str) -> socket.socket:
    return socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=30)


class Dead:
    """A LlamaServer that ends whenever it is started."""

    def __init__(self) -> None:
        self.starts = 0

    def start(self) -> None:
        self.starts += 1

    def alive(self) -> bool:
        return False

    def wait(self) -> int:
        return -6

    def close(self) -> None: ...


def fail() -> None:
    raise BitnetError("its file is gone.")


async def first(count: int, kept: KeptUp, told: list[str]) -> int:
    """How often it was started when the sentence of that number was told."""
    keeping = asyncio.create_task(kept.keep())
    while len(told) < count:  # noqa: ASYNC110 - what is told is a list
        await asyncio.sleep(0)
    keeping.cancel()
    return kept._server.starts


def request(url: str, prompt: str) -> bytes:
    body = json.dumps({"prompt": prompt}).encode()
    return (
        b"POST /v1/completions HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n"
        % (
            urlsplit(url).netloc.encode(),
            len(body),
        )
        + body
    )


def answer(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def closed(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_a_request_that_ends_llamacpp_harms_only_itself(mortal: Mortal, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[str] = []
    answers: dict[str, httpx.Response] = {}
    with fronted(mortal, told=told) as url:
        asking = [
            threading.Thread(target=lambda one=one: answers.update({one: ask(url, one)}))
            for one in ("a", "b", "c", DEADLY, "d")
        ]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
        deadly = answers.pop(DEADLY)
        assert {one: reply.json()["text"] for one, reply in answers.items()} == {one: one for one in "abcd"}
        assert deadly.status_code == 400
        assert deadly.json()["error"]["message"] == "This request makes llama.cpp exit; change it."
        assert httpx.get(f"{url.removesuffix('/v1')}/health").json() == {"status": "ok"}
    assert mortal.starts == 3
    why = "llama.cpp exited (-11: memory ran out, or a request made it fail); it is started again."
    assert told == [why] * 2
    assert capfd.readouterr().err == ""


def test_slow_connections_keep_out_nobody(mortal: Mortal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the flood's own address, nor one that sends its request over a slow link."""
    monkeypatch.setattr(waiting, "OF_AN_ADDRESS", 8)
    with fronted(mortal) as url, contextlib.ExitStack() as opened:
        flood = [opened.enter_context(connect(url)) for _ in range(100)]
        for one in flood:
            with contextlib.suppress(OSError):
                one.sendall(b"POST /v1/completions HTTP/1.1\r\nX-")
        slow = opened.enter_context(connect(url))
        for byte in request(url, "slowly"):
            slow.sendall(bytes([byte]))
            time.sleep(0.002)
        assert answer(slow).endswith(b'{"text": "slowly"}')
        assert ask(url, "at once").json() == {"text": "at once"}
        assert [closed(one) for one in flood] == [True] * 93 + [False] * 7  # the slow one took the place of another


def test_who_says_nothing_is_closed(mortal: Mortal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(incoming, "SHARE_SECONDS", 0.2)
    with fronted(mortal) as url, connect(url) as silent, connect(url) as half:
        half.sendall(request(url, "half")[:-3])
        assert silent.recv(1) == half.recv(1) == b""


def test_who_no_longer_waits_is_not_answered(mortal: Mortal, capfd: pytest.CaptureFixture[str]) -> None:
    with fronted(mortal) as url:
        for _ in range(9):
            with connect(url) as one:
                one.sendall(request(url, SLOW))
        assert ask(url, "stays").json() == {"text": "stays"}
    assert capfd.readouterr().err == ""


def test_who_takes_no_answer_keeps_nobody_waiting(mortal: Mortal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_MOST_UNREAD", 1 << 24)
    with fronted(mortal, parallel=1) as url, contextlib.ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(connect(url)).sendall(request(url, LONG))
        assert ask(url, "at once").json() == {"text": "at once"}
        monkeypatch.setattr(front, "SHARE_SECONDS", 0.2)
        with connect(url) as one:
            one.sendall(request(url, LONG))
            time.sleep(1)
            taken = []
            with contextlib.suppress(ConnectionError):
                taken += iter(lambda: one.recv(1 << 16), b"")
        assert sum(map(len, taken)) < 8 << 20


def test_what_is_too_long_is_refused_in_a_sentence(mortal: Mortal) -> None:
    with fronted(mortal) as url:
        reply = httpx.post(f"{url}/completions", content=b"x" * (3 << 20))
        assert (reply.status_code, reply.json()["error"]["code"]) == (413, 413)
        assert httpx.get(f"{url}/models", headers={"X": "x" * (1 << 15)}).status_code == 431
        with connect(url) as one:
            one.sendall(
                b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
                b"Expect: 100-continue\r\nContent-Length: 14\r\n\r\n"
            )
            assert one.recv(99).startswith(b"HTTP/1.1 100 Continue\r\n")
            one.sendall(b'{"prompt":"a"}')
            assert answer(one).startswith(b"HTTP/1.1 200 OK\r\n")


def test_large_requests_are_passed_on_one_after_another(mortal: Mortal) -> None:
    """Eight of 1 MiB at once take llama.cpp 900 MB."""
    with fronted(mortal, parallel=4) as url:
        sizes = [400_000] * 4 + [1_000_000] + [5] * 4
        asking = [threading.Thread(target=ask, args=(url, "x" * one)) for one in sizes]
        for one in asking:
            one.start()
        for one in asking:
            one.join()
    assert len(mortal.asked) == len(sizes)
    assert mortal.most_bytes < 1_100_000


def test_restarts_are_counted() -> None:
    dead, told = Dead(), []
    assert asyncio.run(first(6, KeptUp(dead, told.append), told)) == 5
    why = "llama.cpp exited (-6: memory ran out, or a request made it fail)"
    assert told[:5] == [f"{why}; it is started again."] * 5
    assert told[5] == f"{why}; it is started again in 60 s, as that has happened 5 times in a minute."


def test_one_that_can_not_be_started_again_ends_the_server() -> None:
    dead = Dead()
    dead.start = fail
    with pytest.raises(BitnetError, match="its file is gone"):
        asyncio.run(KeptUp(dead, [].append).keep())
