"""The HTTP client: servers that stall, drip, hang up or count down neither hang nor mislead it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.http.client import JsonClient
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.payload import decode_error_fields
from bitnet_core.teachers.http.reply import Reply, seconds_until
from bitnet_core.teachers.http.retries import StreamCut, Unreachable
from tests.teachers.server import FIXTURES

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A raw TCP server, which can break every rule of HTTP."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


class RecordingPace(Pace):
    """Records the pauses instead of making them."""

    def __init__(self) -> None:
        super().__init__(8)
        self.pauses = [0.0]

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def client(url: str, pace: Pace | None = None) -> JsonClient:
    return JsonClient(url, read_seconds=0.3, whole_seconds=0.8, first_wait=0.01, pace=pace)


async def stall(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Content-Length: 1000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def cut(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b'Content-Length: 1000\r\n\r\n{"choices"')
    await writer.drain()


@pytest.mark.parametrize(
    ("serve", "said"), [(stall, "no answer within"), (drip, "no complete answer"), (cut, "broke")]
)
async def test_an_answer_that_never_ends_is_given_up(serve: Serve, said: str) -> None:
    async with serving(serve) as url, client(url) as http:
        with pytest.raises(Unreachable, match=said):
            await http.post("/x", {}, attempts=2)


async def stream_then_stall(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(STREAM + b'data: {"a": 1}\n\ndata: {"b"')
    await writer.drain()
    await asyncio.sleep(30)


async def test_a_stream_that_stalls_in_the_middle_is_cut_and_not_retried() -> None:
    events: list[str] = []
    async with serving(stream_then_stall) as url, client(url) as http:
        with pytest.raises(StreamCut):
            await http.stream("/x", {}, events.append)
    assert events == ['{"a": 1}']


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_only_cr_and_lf_end_a_line_of_an_event_stream(end: str, size: int) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x1cf"
    lines = [f'data: "{text}"', "", ": a comment", "event: x", "data: one", "data: two", "", "data: [DONE]"]
    sent = end.join(lines).encode()

    async def stream(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM)
        for place in range(0, len(sent), size):
            writer.write(sent[place : place + size])
            await writer.drain()

    events: list[str] = []
    async with serving(stream) as url, client(url) as http:
        assert await http.stream("/x", {}, events.append) is None
    assert events == [f'"{text}"', "one\ntwo", "[DONE]"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>502 Bad Gateway</html>", b"text/html"),
        (b"", b"application/json"),
        (b'{"error": {"code": 429, "message": "slow down"}}', b"application/json"),
        (b'{"error": {"code": "502", "message": "upstream"}}', b"application/json"),
        (b'{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}', b"application/json"),
        (b'{"error": {"message": "Rate limit exceeded (429)"}}', b"application/json"),
    ],
)
@pytest.mark.usefixtures("soon_asked_again")
async def test_a_transient_error_with_status_200_is_retried(body: bytes, kind: bytes) -> None:
    answers = [body, body, b'{"fine": 1}']

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = answers.pop(0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nConnection: close\r\n\r\n" + data)
        await writer.drain()

    async with serving(serve) as url, client(url) as http:
        assert (await http.post("/x", {})).body == b'{"fine": 1}'
        assert http.pace.refusals == (2 if b"429" in body else 0)


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (
            b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
            "gives no answer that can be read (it does not speak HTTP); check that the address",
        ),
        (b"220 mail ESMTP\r\n\r\n", "it does not speak HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46" * 9 + b"\r\n\r\n", "it does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "it does not speak HTTP"),
        *(
            (
                b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n",
                "gives no answer that can be read (it redirects to what is no address); check that the address",
            )
            for place in (b"javascript:alert(1)", b"http://[::1", b"//xn--0x7f.1", b"//xn--\xe9:1")
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nplaintext",
            "can't be decompressed); check",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
            "can't be reached (the connection broke); check the address",
        ),
        (
            b"SSH-2.0-OpenSSH_9.9\r\n",
            "(the connection broke); check the address, the network and that a model server",
        ),
        (b"", "can't be reached (the connection broke)"),
    ],
)
async def test_what_answers_but_is_no_model_server_is_said(sent: bytes, said: str) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await writer.drain()

    async with serving(serve) as url, client(url) as http:
        with pytest.raises(Unreachable) as caught:
            await http.post("/x", {}, attempts=1)
    assert said in str(caught.value)


def outcome(decode: Callable[[bytes], Any], body: bytes) -> object:
    try:
        reply = Reply(200, body, decode(body))
    except ValueError:
        return "not JSON"
    return reply.payload is None, reply.error, reply.code, reply.quota_spent


@pytest.mark.parametrize("path", sorted(FIXTURES.iterdir()), ids=lambda path: path.name)
def test_an_error_is_found_without_decoding_the_answer(path: Path) -> None:
    body = path.read_bytes()
    assert outcome(decode_error_fields, body) == outcome(decode, body)
    for place in range(0, len(body), 37):
        for damage in (
            body[:place],
            body[:place] + b"\xff" + body[place + 1 :],
            body[:place] + b"NaN" + body[place:],
        ):
            assert outcome(decode_error_fields, damage) == outcome(decode, damage)


@pytest.mark.parametrize("error", [{}, "", None])
async def test_an_empty_error_field_is_not_an_error(error: object) -> None:
    assert Reply(200, b"", {"error": error, "choices": []}).error is None


async def test_quick_requests_have_a_time_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitnet_core.teachers.http.client.QUICK_SECONDS", 0.05)
    async with serving(stall) as url, JsonClient(url, read_seconds=3600, whole_seconds=3600, first_wait=0.01) as http:
        with pytest.raises(Unreachable, match="no complete answer within 0 s"):
            await http.get("/models")
        with pytest.raises(Unreachable, match="no complete answer within 0 s"):
            await http.post("/x", {}, attempts=1, seconds=0.05)


async def test_a_cancelled_request_ends_at_once_and_gives_its_place_back() -> None:
    pace = Pace(1)
    async with serving(stall) as url, JsonClient(url, pace=pace) as http:
        task = asyncio.create_task(http.post("/x", {}))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(60), pace.turn():
            pass


@pytest.mark.parametrize(
    ("headers", "least", "most"),
    [
        (b"x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 1m30s\r\n", 85, 91),
        (b"x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 250ms\r\n", 0.0, 0.26),
        (b"x-ratelimit-remaining-requests: -1\r\nx-ratelimit-reset-requests: 60s\r\n", 0.0, 0.0),
        (b"x-ratelimit-remaining-requests: 0\r\n", 0.0, 0.0),
        (
            b"anthropic-ratelimit-requests-remaining: 0\r\n"
            b"anthropic-ratelimit-requests-reset: 2099-01-01T00:00:00Z\r\n",
            0.0,
            0.0,
        ),
        (b"x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 5h\r\n", 3599, 3601),
    ],
)
async def test_a_server_whose_headers_say_that_nothing_remains_is_not_asked(
    headers: bytes, least: float, most: float
) -> None:
    async def counted(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + headers + b"Content-Length: 2\r\n\r\n{}")
        await writer.drain()

    pace = RecordingPace()
    async with serving(counted) as url, client(url, pace) as http:
        await http.post("/x", {})
    assert least <= max(pace.pauses) <= most


async def test_timeouts_are_retried_less_often_than_other_failures() -> None:
    """Each of the answers may have been generated, and be billed."""
    requests = 0

    async def late(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        requests += 1
        await asyncio.sleep(30)

    async with serving(late) as url, client(url) as http:
        with pytest.raises(Unreachable, match="no answer within 0 s"):
            await http.post("/x", {}, attempts=6)
    assert requests == 3


async def test_an_answer_that_is_not_streamed_may_take_as_long_as_allowed() -> None:
    async def slow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(1.0)  # longer than the client's own limits
        writer.write(HEAD + b"Content-Length: 2\r\n\r\n{}")
        await writer.drain()

    async with serving(slow) as url, client(url) as http:
        assert (await http.post("/x", {}, attempts=1, seconds=20)).body == b"{}"


@pytest.mark.usefixtures("soon_asked_again")
async def test_being_rate_limited_does_not_count_as_an_attempt() -> None:
    refusals = iter([b"HTTP/1.1 429 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"] * 3)

    async def limited(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(refusals, HEAD + b"Content-Length: 2\r\n\r\n{}"))
        await writer.drain()

    async with serving(limited) as url, client(url) as http:
        assert (await http.post("/x", {}, attempts=2)).body == b"{}"


@pytest.mark.parametrize(("seconds", "requests"), [(0.0, 1), (0.5, 2)])
async def test_a_request_that_is_always_rate_limited_is_given_up(
    monkeypatch: pytest.MonkeyPatch, seconds: float, requests: int
) -> None:
    monkeypatch.setattr("bitnet_core.teachers.http.retries.MAX_RATE_LIMITED_SECONDS", seconds)
    requests_seen = 0

    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests_seen
        requests_seen += 1
        writer.write(b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with serving(refuse) as url, client(url) as http, asyncio.timeout(60):
        reply = await http.post("/x", {})
    assert (reply.status, requests_seen) == (429, requests)
    async with serving(refuse) as url, client(url) as http, asyncio.timeout(60):
        assert (await http.get("/models")).status == 429
    assert requests_seen == requests + 1, "a list is asked for once"


@pytest.mark.parametrize("more", [b"\r\n", b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"none": 1}', b"0"])
async def test_bytes_behind_an_answer_are_no_answer_to_the_next_request(more: bytes) -> None:
    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await reader.readexactly(len('{"number":0}'))
            writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(asked) + asked + more)
            await reader.readuntil(b"\r\n\r\n")

    async with serving(twice) as url, client(url) as http:
        for number in range(3):
            reply = await http.post("/x", {"number": number})
            assert decode(reply.body) == {"number": number}


async def test_a_request_carries_no_cookies_of_earlier_replies() -> None:
    """A server that names each of them anew would soon refuse the request for its length."""
    heads = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        cookies = b"".join(b"Set-Cookie: c%d=%s; Path=/\r\n" % (one, b"x" * 1000) for one in range(20))
        writer.write(HEAD + cookies + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server, client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as http:
        for _ in range(2):
            assert (await http.get("/models")).status == 200
    assert len(heads) == 2
    assert not any(b"cookie" in head.lower() for head in heads)


@pytest.mark.parametrize("unit", [1, 1000])
def test_unix_time_may_be_in_milliseconds(unit: int) -> None:
    wait = seconds_until(str(int((time.time() + 90) * unit)))
    assert wait is not None
    assert 85 < wait < 95


@pytest.mark.parametrize("words", ["How do I raise my AWS spending limit?", "Write a rate limiter", "overloaded x"])
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("name", [{"code": "content_filter"}, {"code": 400, "type": "content_policy_violation"}])
def test_words_of_a_quoted_prompt_are_not_the_servers(words: str, status: int, name: dict[str, object]) -> None:
    reply = Reply(status, b"", {"error": {"message": f"prompt blocked: {words}", **name}})
    assert not reply.quota_spent
    assert not reply.retryable
    assert not Reply(200, b"", {"error": {"message": "input rejected: 'write a rate limiter'"}}).retryable


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"message": "Rate limit exceeded: free-models-per-day. Add 10 credits"}),
        (403, {"message": "Key limit exceeded (total limit)"}),
        (429, {"message": "Rate limit reached for gpt-4o on requests per day (RPD): Limit 200"}),
        (429, {"message": "Your prepayment credits are depleted."}),
        (429, {"message": "Your project has exceeded its monthly spending cap."}),
        (400, {"message": "You have reached your specified API usage limits. You will regain access on 2026-12-01"}),
        (429, {"code": "insufficient_quota"}),
        (200, {"message": "Insufficient credits. Add more using the dashboard."}),
        (402, {}),
    ],
)
def test_a_spent_quota_is_not_a_rate_limit(status: int, error: dict[str, str]) -> None:
    reply = Reply(status, b"", {"error": error})
    assert reply.quota_spent
    assert not reply.retryable
    assert not Reply(
        429, b"", {"error": {"message": "Rate limit reached on requests per min (RPM): Limit 3"}}
    ).quota_spent
