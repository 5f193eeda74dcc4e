"""Streams with something odd in the middle of an answer, or behind one that is whole."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply, finish_of
from bitnet_core.teachers.http import client
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.text import is_utf8
from tests.teachers.odd import NAMES, REQUEST, SSE, events, piece, streamed, text_of
from tests.teachers.server import Canned, serving


@pytest.mark.parametrize(
    "cut", [["\ud83d", "\ude00"], ["a\ud83d", "\ude00b\ud83d", "\ude00"], ["\ufeffa\ud83d", "", "\ude00"]]
)
async def test_a_character_that_is_cut_between_its_escapes_is_told_whole(cut: list[str]) -> None:
    told: list[str] = []
    canned = Canned(events(*map(piece, cut), piece("", "stop")), 200, SSE)
    text = await text_of(canned, on_text=told.append)
    assert "".join(told) == text == "".join(cut).encode("utf-16", "surrogatepass").decode("utf-16")
    assert all(map(is_utf8, told))


@pytest.mark.parametrize("code", [500, 429, 503])
async def test_what_a_server_says_in_the_middle_of_a_stream_is_told(code: int) -> None:
    failure = {"error": {"code": code, "message": "the graphics card is on fire"}}
    with pytest.raises(BadReply, match=r"was cut off .*the graphics card is on fire"):
        await streamed(events(piece("Hel"), failure))


@pytest.mark.parametrize(
    "failure", ['{"error": {"message": "worn out"}}', '{"error": "worn out"}', "event: error\ndata: worn out"]
)
async def test_a_failure_in_the_middle_of_an_answer_is_no_verdict_on_the_request(failure: str) -> None:
    said = failure if failure.startswith("event") else f"data: {failure}"
    with pytest.raises(BadReply, match=r"was cut off \(the server reports a failure: worn out\)") as caught:
        await streamed(events(piece("Hel")) + said.encode() + b"\n\n")
    assert caught.value.reason == "stream_cut"


@pytest.mark.parametrize("digits", ["9" * 5000, "-" + "9" * 10_000])
async def test_a_number_of_thousands_of_digits_beside_an_answer_spoils_none(digits: str) -> None:
    numbers = f'"usage": {{"prompt_tokens": {digits}}}, "timings": {{"predicted_ms": {digits}}}'
    last = f'{{"choices": [{{"delta": {{"content": "Hello"}}, "finish_reason": "stop"}}], {numbers}}}'
    assert await streamed(f"data: {last}\n\n".encode()) == "Hello"


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("text", ["Hello", "\ufeffHello"])
async def test_a_byte_order_mark_before_a_stream_hides_no_piece(before: bytes, text: str) -> None:
    assert await streamed(events(piece(text[:3]), piece(text[3:], "stop"), before=before)) == text


def anthropic(*found: dict[str, Any]) -> bytes:
    start = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 1}}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return events(start, *found, end, {"type": "message_stop"})


def block(index: int, text: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}


def candidate(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "content": {"parts": [{"text": text}]}, "finishReason": finish}


@pytest.mark.parametrize(
    ("wire", "body", "text"),
    [
        (
            "openai",
            events(*[piece(t, f, index=i) for i, t, f in ((0, "a", ""), (1, "X", ""), (0, "b", "stop"))]),
            "ab",
        ),
        (
            "openai",
            events(*[piece(t, f, index=i) for i, t, f in ((1, "a", ""), (0, "X", ""), (1, "b", "stop"))]),
            "ab",
        ),
        ("openai", events(*[piece(t, f, index=1) for t, f in (("a", ""), ("b", "stop"))]), "ab"),
        ("openai", events(piece("a"), piece("b", "stop", index=0)), "ab"),
        (
            "openai",
            events({"choices": [*piece("X", index=1)["choices"], *piece("a", "stop", index=0)["choices"]]}),
            "X",
        ),
        (
            "gemini",
            events(
                {"candidates": [candidate(0, "a"), candidate(1, "X")]},
                {"candidates": [candidate(1, "Y", "STOP")]},
                {"candidates": [candidate(0, "b", "STOP")]},
            ),
            "ab",
        ),
        ("anthropic", anthropic(block(0, "a"), block(1, "c"), block(0, "b"), block(1, "d")), "abcd"),
        ("anthropic", anthropic(block(1, "c"), block(0, "a")), "ac"),
    ],
)
async def test_answers_that_come_side_by_side_are_not_mixed(wire: str, body: bytes, text: str) -> None:
    if text == "X":  # that answer has no end
        with pytest.raises(BadReply, match="ended before"):
            await streamed(body, wire)
    else:
        assert await streamed(body, wire) == text


@pytest.mark.parametrize("stray", ["ping", " ping", "keep-alive", "PROCESSING", "Still here"])
async def test_a_word_that_keeps_a_stream_open_is_passed_over(stray: str) -> None:
    body = events(piece("Hel")) + f"data: {stray}\n\n".encode() * 5 + events(piece("lo", "stop"))
    assert await streamed(body) == "Hello"


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
async def test_a_piece_behind_a_byte_order_mark_or_without_a_field_is_not_lost(before: bytes) -> None:
    first, second = events(piece("Hel")), events(piece("lo", "stop"))
    assert await streamed(first + b"\xef\xbb\xbf" + second) == "Hello"
    assert await streamed(before + first.removeprefix(b"data: ") + second) == "Hello"
    with pytest.raises(BadReply, match="not JSON"):
        await streamed(events(piece("Hel")) + b"Data: " + second)
    assert await streamed(b"id: {1}\nretry: 5\n: {no piece}\nother: 5\n" + first + second) == "Hello"


@pytest.mark.parametrize("garbled", ['"lo"', '[{"choices": []}]'])
async def test_an_event_that_is_no_object_is_not_passed_over(garbled: str) -> None:
    with pytest.raises(BadReply, match="not an object"):
        await streamed(events(piece("Hel")) + f"data: {garbled}\n\n".encode() + events(piece("lo", "stop")))
    for idle in ("null", "0", "[]", '""', "true"):
        body = events(piece("Hel")) + f"data: {idle}\n\n".encode() + events(piece("lo", "stop"))
        assert await streamed(body + b'data: "[DONE]"\n\n') == "Hello"


@pytest.mark.parametrize("garbled", ['{"choices": [{"delta"', '"lo"}}]}', "lo\\n", "0x5", "ping {", "x" * 41, "lo}"])
async def test_what_may_be_a_piece_of_the_answer_is_not_passed_over(garbled: str) -> None:
    with pytest.raises(BadReply) as caught:
        await streamed(events(piece("Hel")) + f"data: {garbled}\n\n".encode() + events(piece("lo", "stop")))
    assert caught.value.reason == "not_json"


async def test_words_without_end_do_not_make_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadReply, match="said: ping"):
        await streamed(events(piece("Hel")) + b"data: ping\n\n" * 3)
    monkeypatch.setattr("bitnet_core.teachers.chat._MOST_STRAY", 2)
    with pytest.raises(BadReply, match="not JSON"):
        await streamed(b"data: ping\n\n" * 3 + events(piece("Hello", "stop")))


async def test_a_second_answer_in_a_stream_is_not_added_to_the_first() -> None:
    start = {"type": "message_start", "message": {"model": "m"}}
    with pytest.raises(BadReply, match="second answer"):
        await streamed(anthropic(block(0, "a"), start, block(0, "b")), "anthropic")


def named(*pieces: tuple[str, str]) -> bytes:
    """Pieces of text, each with the id that its event gives."""
    return events(*({**piece(text), "id": name} for name, text in pieces), piece("", "stop"))


@pytest.mark.parametrize("second", [("b", "Hel"), ("b", "lo")])
async def test_an_answer_that_a_gateway_begins_anew_is_not_added_to_the_first(second: tuple[str, str]) -> None:
    with pytest.raises(BadReply, match="second answer"):
        await streamed(named(("a", "Hel"), ("a", "lo"), second))
    with pytest.raises(BadReply, match="second answer"):
        await streamed(named(("", "H"), ("a", "e"), ("a", "llo"), second))
    for names in (("a", "b", "c"), ("a", "a", ""), ("", "a", "a"), ("", "", "")):  # no id, or one for each piece
        assert await streamed(named(*zip(names, ("Hel", "l", "o"), strict=True))) == "Hello"


@pytest.mark.parametrize(
    ("reasons", "kept"),
    [
        (("content_filter", "stop"), "content_filter"),
        (("SAFETY", "stop"), "content_filter"),
        (("stop", "content_filter"), "content_filter"),
        (("length", "stop"), "length"),
        (("max_tokens", "eos"), "length"),
        (("stop", "length"), "length"),
        (("null", "NULL", "stop"), "stop"),
        (("stop", "none"), "stop"),
        (("something", "stop"), "stop"),
    ],
)
async def test_of_several_finish_reasons_the_worst_counts(reasons: tuple[str, ...], kept: str) -> None:
    body = events(*[piece(text, reason) for text, reason in zip("abc", reasons, strict=False)])
    with serving(Canned(body, headers=SSE)) as server:
        async with WIRES["openai"](PROVIDERS["custom"], server.base_url, "m", None, first_wait=0.01) as chat:
            result = await chat.chat(REQUEST, attempts=1, on_text=lambda _: None)
    assert (result.text, result.finish_reason) == ("abc"[: len(reasons)], kept)
    assert finish_of("null") == finish_of("None") == ""


async def test_a_stream_that_names_no_reason_but_null_has_not_ended() -> None:
    with pytest.raises(BadReply, match="ended before the answer did"):
        await streamed(events(piece("Hel", "null"), piece("lo", "null")))
    with pytest.raises(BadReply, match="failed while answering"):
        await streamed(events(piece("Hello", "error"), piece("", "stop")))


@pytest.mark.parametrize(
    "said",
    [
        "worn out",
        '"worn out"',
        '{"message": "worn out", "type": "x"}',
        '{"error": {"message": "worn out"}}',
        "{worn out",
    ],
)
async def test_an_event_that_is_named_error_is_told(said: str) -> None:
    with pytest.raises(BitnetError, match="worn out"):
        await streamed(b"event: error\ndata: " + said.encode() + b"\n\n")


# -- what comes behind a whole answer ------------------------------------------------------------------------

ENDS = [
    ("openai", events(piece("a"), piece("b", "stop")), "ab"),
    ("openai", events(piece("a", "stop"), piece("b", "stop")), None),
    ("openai", events(piece("a"), piece("b")), None),
    ("openai", events(piece("a"), piece("b", "stop"), {"error": {"message": "worn out", "code": 500}}), None),
    ("gemini", events({"candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": "STOP"}]}), None),
]


@contextlib.asynccontextmanager
async def without_end(body: bytes, *, breaks: bool) -> AsyncIterator[str]:
    """A stream that breaks or stalls behind `body`."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head + b"%x\r\n%s\r\n" % (len(body), body))
            await writer.drain()
            if not breaks:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(give, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


@pytest.mark.parametrize("breaks", [False, True])
@pytest.mark.parametrize(("wire", "body", "text"), ENDS)
async def test_an_answer_that_is_whole_is_taken_whatever_its_stream_does(
    wire: str, body: bytes, text: str | None, breaks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REST_SECONDS", 0.1)
    key = None if wire == "openai" else "k"
    async with (
        without_end(body, breaks=breaks) as address,
        asyncio.timeout(60),
        WIRES[wire](PROVIDERS[NAMES[wire]], address, "m", key, first_wait=0.01) as chat,
    ):
        asked = chat.chat(REQUEST, attempts=1, seconds=60 if text else 1, on_text=lambda _: None)
        if text:
            assert (await asked).text == text
        else:
            with pytest.raises(BadReply, match="cut off") as caught:
                await asked
            assert caught.value.reason == "stream_cut"


@pytest.mark.parametrize(("first", "said"), [(None, None), ("stop", "ab")])
async def test_events_without_end_end_with_the_attempt(
    first: str | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "REST_SECONDS", 60.0)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + events(piece("ab", first)))
            while True:
                writer.write(b"data:\n\n")
                await writer.drain()
                await asyncio.sleep(0.05)

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with (
        server,
        asyncio.timeout(30),
        WIRES["openai"](PROVIDERS["custom"], address, "m", None, first_wait=0.01) as chat,
    ):
        asked = chat.chat(REQUEST, attempts=1, seconds=1, on_text=lambda _: None)
        if said:
            assert (await asked).text == said
        else:
            with pytest.raises(BadReply, match="cut off"):
                await asked


@pytest.mark.parametrize("empty", [b"data:\n\n", b"data: \n\n", b"event: ping\ndata:\n\n", b"data:\ndata:\n\n"])
async def test_an_empty_event_is_no_part_of_an_answer(empty: bytes) -> None:
    body = empty + events(piece("a")) + empty + events(piece("b", "stop")) + empty
    assert await streamed(body) == "ab"
