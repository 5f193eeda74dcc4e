"""Content that is a list of parts, in every wire format, in one piece and streamed."""

import json
from typing import Any

import pytest

from bitnet_core.teachers.answers.parts import text_of
from bitnet_core.teachers.answers.result import BadReply, finish_of
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.opening import WIRES
from bitnet_core.teachers.profiles import PROVIDERS
from tests.teachers.server import Canned, read_payload, serving

TEXT = {"type": "text", "text": "Hello"}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "The user greets."}], "closed": True}
REQUEST = ChatRequest([{"role": "user", "content": "Hi"}], 8, 0.8, 0.9)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, None),
        ("Hello", "Hello"),
        ([], ""),
        ([TEXT], "Hello"),
        (TEXT, "Hello"),
        ([THINKING, TEXT, {"type": "text", "text": " friend."}], "Hello friend."),
        ([THINKING], ""),
        (["Hello", TEXT], "HelloHello"),
        ([{"text": "Hello"}], "Hello"),
        ([{"type": "output_text", "text": "Hello", "annotations": []}], "Hello"),
        ([{"type": "redacted_thinking", "data": "x"}, TEXT], "Hello"),
        ([{"type": "reasoning", "text": "hm"}, TEXT], "Hello"),
        ([{"text": "thought", "thought": True}, {"text": "Hello", "thought": False}], "Hello"),
        ([{"thoughtSignature": "x"}, {"text": "Hello", "thoughtSignature": "x"}], "Hello"),
        ([{"type": "text", "text": None}], ""),
        ([{"type": "text", "text": None, "annotations": []}, TEXT], "Hello"),
        ([{"type": "text"}, TEXT], "Hello"),
        ([{}, {"text": "Hello"}], "Hello"),
        ([TEXT, {"type": "citations_delta", "citation": {}}], "Hello"),
        ([{"text": "Hm", "thought": "true"}, {"text": "Hello"}], "Hello"),
    ],
)
def test_text_is_text_and_thinking_is_no_part_of_it(content: Any, text: str | None) -> None:
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        ([TEXT, {"type": "image_url", "image_url": {"url": "x"}}], "unknown_part", "image_url"),
        ([{"type": "tool_use", "name": "f", "input": {}}], "unknown_part", "tool_use"),
        ([{"functionCall": {"name": "f"}}], "unknown_part", "functionCall"),
        ([{"inlineData": {"data": ""}}], "unknown_part", "inlineData"),
        ([{"type": 7, "text": "x"}], "unknown_part", "7"),
        ([{"type": ["text"], "text": "x"}], "unknown_part", "text"),
        ([TEXT, {"type": "refusal", "refusal": "No."}], "refused", "refused"),
        ([TEXT, 5], "malformed", "neither text"),
        ([[TEXT]], "malformed", "neither text"),
        (5, "malformed", "neither text"),
        ([{"type": "text", "text": ["x"]}], "malformed", "not a string"),
        ([TEXT, {"type": "text", "text": []}], "malformed", "not a string"),
        ([TEXT, {"type": "text", "text": 0}], "malformed", "not a string"),
        ([TEXT, {"type": "text", "text": False}], "malformed", "not a string"),
        ([TEXT, {"type": "text", "text": {}}], "malformed", "not a string"),
        ([TEXT, {"type": "text", "content": " and more"}], "unknown_part", "content in place of its text"),
        ([TEXT, {"type": "text", "value": "more"}], "unknown_part", "value"),
        ([TEXT, {"type": "text", "text": None, "content": "more"}], "unknown_part", "content"),
        ([TEXT, {"type": "output_text", "parts": ["more"]}], "unknown_part", "parts"),
        ([TEXT, {"type": "text_delta", "delta": "more"}], "unknown_part", "delta"),
        ([{"text": None, "string": "more"}], "unknown_part", "string"),
        ({"type": "text", "body": {"text": "more"}}, "unknown_part", "body"),
    ],
)
def test_an_unknown_part_is_named_and_not_skipped(content: Any, reason: str, said: str) -> None:
    with pytest.raises(BadReply, match=said) as caught:
        text_of(content)
    assert caught.value.reason == reason


def test_an_answer_of_thinking_alone_has_no_text() -> None:
    with pytest.raises(BadReply) as caught:
        read_payload({"choices": [{"message": {"content": [THINKING]}, "finish_reason": "length"}]})
    assert caught.value.reason == "no_text"


def sse(*events: Any) -> Canned:
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in events)
    return Canned(body.encode(), headers={"Content-Type": "text/event-stream"})


def delta(content: Any, finish: str | None = None) -> dict[str, Any]:
    return {"model": "m", "choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}]}


def block(kind: str, field: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": kind, "index": 0, field: value}


MISTRAL = [delta([THINKING]), delta([THINKING, TEXT]), delta(" friend."), delta("", "stop")]
ANTHROPIC = [
    {"type": "message_start", "message": {"model": "m", "content": [], "usage": {"input_tokens": 3}}},
    block("content_block_start", "content_block", {"type": "thinking", "thinking": ""}),
    block("content_block_delta", "delta", {"type": "thinking_delta", "thinking": "The user greets."}),
    block("content_block_delta", "delta", {"type": "signature_delta", "signature": "x"}),
    block("content_block_start", "content_block", {"type": "text", "text": ""}),
    block("content_block_delta", "delta", {"type": "text_delta", "text": "Hello"}),
    block("content_block_delta", "delta", {"type": "text_delta", "text": " friend."}),
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}},
    {"type": "message_stop"},
]
GEMINI = [
    {"candidates": [{"content": {"parts": [{"text": "Greet.", "thought": True}, {"text": "Hello"}]}}]},
    {"candidates": [{"content": {"parts": [{"text": " friend."}]}, "finishReason": "STOP"}]},
]
STREAMS = [("mistral", MISTRAL), ("anthropic", ANTHROPIC), ("gemini", GEMINI)]


async def streamed(provider: str, events: list[Any]) -> tuple[str, str]:
    said: list[str] = []
    profile = PROVIDERS[provider]
    with serving(sse(*events)) as server:
        async with WIRES[profile.wire](profile, server.base_url, "m", "a-key", first_wait=0.01) as chat:
            result = await chat.chat(REQUEST, on_text=said.append)
    return "".join(said), result.text


@pytest.mark.parametrize(("provider", "events"), STREAMS)
async def test_a_stream_of_parts_gives_the_whole_text(provider: str, events: list[Any]) -> None:
    assert await streamed(provider, events) == ("Hello friend.", "Hello friend.")


@pytest.mark.parametrize(
    ("provider", "events"),
    [
        ("mistral", [delta([{"type": "reference", "reference_ids": [1]}]), *MISTRAL]),
        ("anthropic", [block("content_block_start", "content_block", {"type": "tool_use", "id": "1"}), *ANTHROPIC]),
        ("gemini", [{"candidates": [{"content": {"parts": [{"executableCode": {"code": "x"}}]}}]}, *GEMINI]),
    ],
)
async def test_an_unknown_part_in_a_stream_is_named(provider: str, events: list[Any]) -> None:
    with pytest.raises(BadReply) as caught:
        await streamed(provider, events)
    assert caught.value.reason == "unknown_part"


def test_what_a_server_says_stays_on_one_line() -> None:
    with pytest.raises(BadReply) as caught:
        finish_of("error: " + "a\nb" * 1000)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300
