"""How much of a reply is decoded: few bytes never become gigabytes, whatever they are."""

import asyncio
import contextlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http import in_flight
from bitnet_core.teachers.http.in_flight import InFlight
from bitnet_core.teachers.http.payload import TOO_LARGE, count_values, decode_error, decode_error_fields
from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.wire.anthropic import AnthropicMessages
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.teachers.wire.openai import OpenAIChat
from tests.teachers.server import Canned, chat_body, entry, serving, with_top

REQUEST = ChatRequest([{"role": "user", "content": "Hi"}], 1024, 0.8, 0.9, 20)
MANY = {
    "lists": b"[],",
    "objects": b"{},",
    "pairs": b'{"a":9},',
    "numbers": b"9e1,",
    "texts": b'"ab",',
    "nulls": b"null,",
    "tokens": b'{"token":"a","top_logprobs":[{}]},',
}
PLACES = {
    "error": b'{"error":{"message":"slow","x":[%s0]}}',
    "bare error": b'{"error":[%s0],"x":NaN}',
    "detail": b'{"detail":[%s0]}',
    "choices": b'{"choices":[%s{}]}',
    "content": b'{"choices":[{"message":{"content":[%s0]}}]}',
    "logprobs": b'{"choices":[{"message":{"content":"x"},"logprobs":{"content":[%s{}]}}]}',
    "list": b"[%s0]",
}
HOSTILE = [(place, MANY["lists"]) for place in PLACES.values()] + [(PLACES["error"], one) for one in MANY.values()]
"""Places, and what fills them."""


async def refused_within(body: bytes, status: int, most_bytes: int, wire: Any, **options: Any) -> str:
    """Ask with eight requests at once for a body; the sentence, once it is known to have been cheap."""
    kind = {"Content-Type": "text/event-stream"} if options else {"Content-Type": "application/json"}
    with serving(Canned(body, status, kind)) as server:
        async with wire(PROVIDERS["custom"], server.base_url, "m", None, first_wait=0.01) as chat:

            async def ask() -> str:
                with pytest.raises((BadReply, BitnetError)) as caught:
                    await chat.chat(REQUEST, attempts=1, **options)
                return str(caught.value)

            tracemalloc.start()
            said = await asyncio.gather(*[ask() for _ in range(3)])
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
    assert peak < most_bytes
    return said[0]


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(("place", "one"), HOSTILE, ids=[*PLACES, *MANY])
async def test_few_bytes_never_become_many(place: bytes, one: bytes, status: int) -> None:
    body = place % (one * (9_000_000 // len(one)))
    said = await refused_within(body, status, 60 << 20, OpenAIChat)
    assert ("more than 961,194 values" if status == 200 else TOO_LARGE) in said


@pytest.mark.parametrize("wire", [AnthropicMessages, GeminiContent])
async def test_in_every_format(wire: Any) -> None:
    assert "values" in await refused_within(b'{"content":[%s0]}' % (b"{}," * 3_000_000), 200, 60 << 20, wire)


async def test_in_a_stream() -> None:
    body = b'data: {"choices":[{"delta":{"content":"x"},"logprobs":{"content":[%s{}]}}]}\n\n' % (b"{}," * 3_000_000)
    said = await refused_within(body, 200, 60 << 20, OpenAIChat, on_text=lambda _: None)
    assert "more than 2,883,584 values" in said


async def test_a_list_of_models() -> None:
    with serving(Canned(b'{"data":[%s{}]}' % (b"{}," * 3_000_000))) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None) as chat:
            with pytest.raises(BitnetError, match="/models can't be read: the answer has more than 699,050 values"):
                await chat.models()


@pytest.mark.parametrize("text", [" ", '"', "\\u00e9", " " * 24, "\U0001f600"])
async def test_what_was_asked_for_is_never_too_many_values(text: str) -> None:
    """Every candidate with an id, its bytes as numbers, and fields that nobody asked for."""
    one = entry(text, -0.5) | {"id": 12345, "bytes": list(text.encode()), "prob": 0.6, "rank": 1}
    steps = [with_top(one, one, *[entry(f"{text}{place}", -3.0 - place) for place in range(19)])] * 1024
    with serving(Canned(chat_body(text * 1024, steps, finish_reason="length"))) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None) as chat:
            assert (await chat.chat(REQUEST)).completion_tokens == 1024


# -- errors --------------------------------------------------------------------------------------------------


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize("status", [200, 400, 429, 500])
@pytest.mark.parametrize("depth", [5, 31, 33, 500, 900, 1020, 5000])
@pytest.mark.parametrize(
    "place",
    [
        '{"error": {"message": %s}}',
        '{"error": {"code": %s}}',
        '{"error": {"type": %s, "message": "x"}}',
        '{"error": {"message": "x", "code": "429", "details": %s}}',
        '{"error": {"message": "x", "metadata": {"raw": "%s"}}}',
        '{"error": "x", "message": %s}',
        '{"detail": %s}',
        '{"detail": %s, "x": NaN}',
        '[{"error": {"message": %s}}]',
    ],
)
def test_an_error_of_any_depth_is_put_into_words(place: str, depth: int, status: int) -> None:
    body = (place % nested(depth)).encode()
    try:
        reply = Reply(status, body, decode_error_fields(body) if status == 200 else decode_error(body))
    except ValueError as error:
        assert "deep" in str(error)
        return
    assert isinstance(reply.words(), str)
    assert reply.code in (status, 429)
    assert reply.retryable in (True, False)
    assert reply.about_the_prompt in (True, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner, max_size=5),
    max_leaves=30,
)


@given(JSON, st.sampled_from([None, (",", ":")]))
def test_no_value_is_left_uncounted(value: Any, separators: Any) -> None:
    assert 1 + count_values(json.dumps(value, separators=separators).encode()) >= slow_count(value)


def slow_count(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(slow_count, value.values()))
    return 1 + sum(map(slow_count, value)) if isinstance(value, list) else 1


@given(st.dictionaries(st.sampled_from(["error", "message", "detail", "x"]), JSON))
def test_the_fields_of_a_small_error_are_all_there(payload: dict[str, Any]) -> None:
    body = json.dumps(payload).encode()
    assert decode_error(body) == decode(body)
    fields = {name: payload.get(name) for name in ("error", "message", "detail")}
    assert decode_error_fields(body) == fields
    assert decode_error_fields(body[:-1] + b', "y": NaN}' if payload else b'{"y": NaN}') == fields


@pytest.mark.parametrize("read", [decode_error, decode_error_fields])
@pytest.mark.parametrize("message", ["a, b: [c] " * 100, "x" * 200_000])
def test_an_error_that_quotes_a_long_prompt_is_read(read: Callable[[bytes], Any], message: str) -> None:
    assert read(json.dumps({"error": {"message": message}}).encode())["error"] == {"message": message}


# -- all replies together ------------------------------------------------------------------------------------


async def test_beyond_the_limit_one_reply_at_a_time_is_read_to_its_end() -> None:
    held: list[int] = []
    now = peak = 0
    whole = InFlight(10)

    async def read(name: int, size: int) -> None:
        nonlocal now, peak
        async with whole.share() as share:
            for _ in range(size):
                await share.take(1)
                now += 1
                peak = max(peak, now)
                await asyncio.sleep(0)
            held.append(name)
            now -= size

    async with asyncio.timeout(60):
        await asyncio.gather(*[read(name, 8) for name in range(20)])
    assert sorted(held) == list(range(20))
    assert peak <= 10 + 8
    assert whole.left == 10
    assert not whole.beyond.locked()


async def test_a_cancelled_reply_gives_its_bytes_back() -> None:
    whole = InFlight(10)

    async def read(size: int) -> None:
        async with whole.share() as share:
            await share.take(size)
            await asyncio.sleep(30)

    tasks = [asyncio.create_task(read(size)) for size in (6, 8, 9)]
    await asyncio.sleep(0.01)
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert whole.left == 10
    assert not whole.beyond.locked()


async def test_replies_larger_than_the_limit_are_all_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_flight.InFlight.__init__, "__defaults__", (1 << 12,))
    step = entry("A", -0.5)
    body = chat_body("A" * 200, [with_top(step, step)] * 200)
    with serving(Canned(body)) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None) as chat, asyncio.timeout(60):
            found = await asyncio.gather(*[chat.chat(REQUEST) for _ in range(12)])
    assert [len(result.text) for result in found] == [200] * 12


async def test_the_bytes_of_an_answer_count_until_it_is_stored() -> None:
    step = entry("A", -0.5)
    body = chat_body("A" * 50, [with_top(step, step)] * 50)
    with serving(Canned(body), Canned({"error": {"message": "no"}}, 400)) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None) as chat:
            whole = chat._http._in_flight
            with contextlib.ExitStack() as held:
                answer = await chat.chat(REQUEST, held=held)
                assert whole.left == in_flight.MOST_BYTES - len(answer.body)
            assert whole.left == in_flight.MOST_BYTES
            with contextlib.ExitStack() as held:
                with contextlib.suppress(BitnetError):
                    await chat.chat(REQUEST, held=held)
                assert whole.left == in_flight.MOST_BYTES  # a refusal may be followed by other requests


async def test_answers_that_are_being_stored_keep_others_waiting() -> None:
    whole, stored = InFlight(10), list[int]()
    now = peak = 0

    async def ask(name: int) -> None:
        nonlocal now, peak
        with contextlib.ExitStack() as held:
            async with whole.share() as share:
                await share.take(8)
                now += 8
                peak = max(peak, now)
                share.keep(held)
            await asyncio.sleep(0)
            stored.append(name)
            now -= 8

    async with asyncio.timeout(60):
        await asyncio.gather(*map(ask, range(20)))
    assert sorted(stored) == list(range(20))
    assert peak <= 16
    assert whole.left == 10
    assert not whole.beyond.locked()
