"""Bodies and streams of any size, packing and cut: what is read, and what is refused in bounded memory."""

import gzip
import json
import re
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.body import NotDecompressed, TooManyBytes, body_chunks
from bitnet_core.teachers.http.event_stream import event_data
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.wire.openai import OpenAIChat
from tests.teachers.server import Canned, chat_body, entry, serving, with_top

A = entry("A", -0.5)
GOOD = json.dumps(chat_body("A", [with_top(A, A)])).encode()
REQUEST = ChatRequest([{"role": "user", "content": "Hi"}], 4, 0.8, 0.9, 2)


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def whole(data: bytes, encoding: str = "", most: int = 1 << 20, size: int = 7) -> bytes:
    return b"".join([chunk async for chunk in body_chunks(pieces(data, size), encoding, most)])


@pytest.mark.parametrize("text", [b"", b"x", b"hello " * 1000])
@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("", bytes),
        ("identity", bytes),
        ("gzip", gzip.compress),
        (" GZIP ", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", lambda data: raw_deflate(data)),
        ("gzip", zlib.compress),  # misnamed
        ("x-gzip", gzip.compress),
        ("gzip", lambda data: gzip.compress(data) + gzip.compress(b"")),
        ("gzip", lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])),
        ("gzip", lambda data: b"".join(gzip.compress(data[at : at + 99]) for at in range(0, len(data) + 1, 99))),
        ("gzip", lambda data: gzip.compress(data[:9]) + bytes(700) + gzip.compress(data[9:]) + bytes(5)),
        ("gzip", lambda data: gzip.compress(data) + b"what is not gzip" * 9),
        ("deflate", lambda data: zlib.compress(data) + zlib.compress(b"not this")),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
async def test_every_packing_that_was_asked_for_is_read(text: bytes, encoding: str, pack: Any, size: int) -> None:
    assert await whole(pack(text), encoding, size=size) == text


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(("size", "most", "fits"), [(100, 100, True), (101, 100, False), (0, 0, True), (1, 0, False)])
@pytest.mark.parametrize("encoding", ["", "gzip"])
async def test_the_limit_is_exact(size: int, most: int, fits: bool, encoding: str) -> None:
    data = gzip.compress(b"x" * size) if encoding else b"x" * size
    if fits:
        assert len(await whole(data, encoding, most)) == size
    else:
        with pytest.raises(TooManyBytes, match="larger than"):
            await whole(data, encoding, most)


@pytest.mark.parametrize(
    ("encoding", "data"), [("br", b"x"), ("zstd", b"x"), ("gzip", b"not gzip"), ("deflate", b"\xff" * 9)]
)
async def test_a_packing_that_can_not_be_read_is_said(encoding: str, data: bytes) -> None:
    with pytest.raises(NotDecompressed):
        await whole(data, encoding)


def bomb(size: int) -> bytes:
    """Gzip without its end, which nobody should reach. After a full flush, the same bytes may come again."""
    packer = zlib.compressobj(9, wbits=31)
    first, next_one = (packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + next_one * ((size >> 20) - 1)


BOMB = bomb(1 << 28)


async def test_a_bomb_is_unpacked_no_further_than_its_limit() -> None:
    tracemalloc.start()
    with pytest.raises(TooManyBytes):
        await whole(BOMB, "gzip", 1 << 20, size=1 << 16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(
    ("start", "then"),
    [
        (gzip.compress(b"  "), b"x"),
        (gzip.compress(b"  "), b"\0"),
        (zlib.compress(b"  "), b"x"),
        (gzip.compress(b"")[:10], b"\0\0\0\xff\xff"),
        (zlib.compress(b"")[:2], b"\0\0\0\xff\xff"),
        (b"", gzip.compress(b"")),
        (b"\x1f\x8b\x08\x08\0\0\0\0\0\3", b"n"),
        (b"\x1f\x8b\x08\x10\0\0\0\0\0\3", b"c"),
    ],
)
async def test_a_body_that_unpacks_to_nothing_has_a_limit(start: bytes, then: bytes) -> None:
    received = 0

    async def arriving() -> AsyncIterator[bytes]:
        nonlocal received
        yield start
        while True:
            received += 1 << 16
            yield then * ((1 << 16) // len(then))

    tracemalloc.start()
    with pytest.raises(TooManyBytes):
        async for _ in body_chunks(arriving(), "gzip", 1 << 20):
            pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received < 2 << 20
    assert peak < 1 << 20


@pytest.mark.parametrize("damage", [b"\x1f\x8b\x08", b"\x1f" + b"x" * 20])
async def test_a_broken_second_member_is_said(damage: bytes) -> None:
    with pytest.raises(NotDecompressed):
        await whole(gzip.compress(b"x") + damage + b"\xff" * 40, "gzip")


async def test_pieces_of_two_bytes_are_not_kept_one_by_one() -> None:
    tracemalloc.start()
    found = [data async for data in event_data(pieces(b"data: " + b"x" * 200_000, 2))]
    found += [data async for data in event_data(pieces(b"data:ab\n" * 50_000, 1 << 16))]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(map(len, found)) == [200_000, 149_999]
    assert peak < 2 << 20


def endless(piece: str, times: int) -> bytes:
    return f"data: {piece}\n\n".encode() * times


CHUNK = json.dumps({"choices": [{"index": 0, "delta": {"content": "words "}, "finish_reason": None}]})
STREAM = {"Content-Type": "text/event-stream"}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    "answer",
    [
        Canned(BOMB, headers={"Content-Encoding": "gzip"}),
        Canned(b'{"choices": [{"message": {"content": "' + b"x" * (3 << 20)),
        Canned(b" " * (3 << 20) + GOOD),
        Canned(BOMB, 400, {"Content-Encoding": "gzip"}),
        Canned(endless(CHUNK, 40_000), headers=STREAM),
        Canned(endless("", 500_000), headers=STREAM),
        Canned(b": keep-alive\n\n" * 300_000, headers=STREAM),
        Canned(b"data: " + b"x" * (3 << 20), headers=STREAM),
    ],
)
async def test_more_bytes_than_were_asked_for_are_not_an_answer(answer: Canned, streamed: bool) -> None:
    with serving(answer) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None, first_wait=0.01) as chat:
            with pytest.raises((BadReply, BitnetError)) as caught:
                await chat.chat(REQUEST, attempts=1, **({"on_text": lambda _: None} if streamed else {}))
    assert not isinstance(caught.value, BadReply) or caught.value.reason in ("too_large", "not_json", "malformed")
    assert "larger than" in str(caught.value) or answer.headers == STREAM


async def test_an_answer_of_the_size_that_was_asked_for_is_read() -> None:
    steps = [with_top(A, A, entry("B", -3.0)) for _ in range(4000)]
    body = chat_body("A" * 4000, steps, finish_reason="length")
    with serving(Canned(body)) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None) as chat:
            assert len((await chat.chat(ChatRequest(REQUEST.messages, 4000, 1, 1, 2))).text) == 4000


async def test_a_list_of_models_has_a_limit_too() -> None:
    with serving(Canned(BOMB, headers={"Content-Encoding": "gzip"})) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None) as chat:
            with pytest.raises(BitnetError, match=r"/models can't be read: .* larger than 16.8 MB"):
                await chat.models()


# -- streams -------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["data: a", "data:b", ": x", "", "event: y", "data", "é"])), st.data())
async def test_events_equal_the_slow_twin_however_they_are_cut(lines: list[str], data: st.DataObject) -> None:
    ends = [data.draw(st.sampled_from(["\n", "\r", "\r\n"])) for _ in lines]
    text = "".join(line + end for line, end in zip(lines, ends, strict=True))
    size = data.draw(st.integers(1, 9))
    found = [event.decode() async for event in event_data(pieces(text.encode(), size))]
    assert found == list(slow_events(re.split("\r\n|\n|\r", text)))


def slow_events(lines: Iterable[str]) -> Iterable[str]:
    held: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("data:"):
            held.append(line[5:].removeprefix(" "))
        elif not line and held:
            yield "\n".join(held)
            held = []


async def test_after_done_nothing_more_is_read() -> None:
    events = [{"choices": [{"delta": {"content": "Hi"}, "finish_reason": "stop"}]}]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\ndata: not JSON\n\n"
    with serving(Canned(body.encode(), headers=STREAM)) as server:
        async with OpenAIChat(PROVIDERS["custom"], server.base_url, "m", None) as chat:
            assert (await chat.chat(REQUEST, on_text=lambda _: None)).text == "Hi"
