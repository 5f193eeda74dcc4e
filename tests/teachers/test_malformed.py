"""Whatever a server sends: a result that can be written down, or a BadReply, and never a traceback."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.teachers.answers.read import BadReply, guarded
from bitnet_core.teachers.chat import HttpChat
from bitnet_core.teachers.wire.anthropic import AnthropicMessages
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.steps import TokenTable
from tests.teachers.server import chat_body, entry

FOLDER = Path(__file__).parent / "fixtures"
WIRES: tuple[type[HttpChat], ...] = (OpenAIChat, AnthropicMessages, GeminiContent)
JUNK = [None, True, False, 0, 3, -1, 1.5, "x", "", "\ud83d", [], [1], [[]], {}, {"x": 1}, 10**400, 2**40, [True]]


def of_wire(name: str) -> type[HttpChat]:
    return GeminiContent if "gemini" in name else AnthropicMessages if "anthropic" in name else OpenAIChat


BODIES = [(of_wire(path.name), json.loads(path.read_bytes())) for path in sorted(FOLDER.glob("*.json"))]
STREAMS = [
    (
        of_wire(path.name),
        [json.loads(line[6:]) for line in path.read_text().splitlines() if line.startswith("data: {")],
    )
    for path in sorted(FOLDER.glob("*.sse"))
]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from places(tree[key])


def spoilt(tree: Any, draw: Any, times: int) -> Any:
    tree = copy.deepcopy(tree)
    for _ in range(times):
        found = list(places(tree))
        if found:
            container, key = found[draw(st.integers(0, len(found) - 1))]
            container[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
    return tree


def judge(wire: type[HttpChat], payload: Any) -> None:
    body = json.dumps(payload).encode()
    for read in (lambda: wire.parse(payload, body, TokenTable()), lambda: wire.read(body, TokenTable())):
        try:
            result = read()
        except BadReply as error:
            assert error.reason
            assert error.body == body
            continue
        for text in (result.text, result.finish_reason, result.model):
            text.encode()
        assert 0 <= result.prompt_tokens < 2**31
        assert 0 <= result.completion_tokens < 2**32
        if result.steps is not None:
            assert all(-1 <= result.steps.step(row).token_id < 2**31 for row in range(len(result.steps)))


@settings(max_examples=400)
@given(st.data())
def test_a_body_that_is_spoilt_anywhere(data: st.DataObject) -> None:
    wire, payload = BODIES[data.draw(st.integers(0, len(BODIES) - 1))]
    judge(wire, spoilt(payload, data.draw, data.draw(st.integers(1, 3))))


@settings(max_examples=200)
@given(st.data())
def test_a_stream_that_is_spoilt_anywhere(data: st.DataObject) -> None:
    wire, events = STREAMS[data.draw(st.integers(0, len(STREAMS) - 1))]
    judge_stream(wire, spoilt(events, data.draw, data.draw(st.integers(1, 3))))


def judge_stream(wire: type[HttpChat], events: list[Any]) -> None:
    fold = wire.fold()
    try:
        for event in events:
            with guarded(b"{}"):
                if isinstance(event, dict):
                    fold.add(event)
        whole = fold.payload()
    except BadReply:
        return
    judge(wire, whole)


A = entry("a", -0.5)


@pytest.mark.parametrize("tops", [True, 3, "x", {"a": -0.5}])
def test_candidates_that_are_no_list(tops: Any) -> None:
    with pytest.raises(BadReply) as caught:
        OpenAIChat.parse(chat_body("a", [{**A, "top_logprobs": tops}]), b"", TokenTable())
    assert caught.value.reason == "malformed_logprobs"


def test_what_is_no_json_says_so() -> None:
    for body in (b"<html>", b"", b"\xff\xfe", b'{"choices": [', b"[" * 100_000):
        with pytest.raises(BadReply) as caught:
            OpenAIChat.read(body, TokenTable())
        assert caught.value.reason in ("not_json", "malformed")


def test_half_a_surrogate_pair_is_no_text_in_any_format() -> None:
    gemini = {"candidates": [{"content": {"parts": [{"text": "abc \ud83d"}]}, "finishReason": "STOP"}]}
    anthropic = {"content": [{"type": "text", "text": "abc \ud83d"}], "stop_reason": "end_turn"}
    for wire, payload in zip(
        WIRES, (chat_body("abc \ud83d", [{**A, "top_logprobs": [A]}]), anthropic, gemini), strict=True
    ):
        for read in (
            lambda wire=wire, payload=payload: wire.parse(payload, b"", TokenTable()),
            lambda wire=wire, payload=payload: wire.read(json.dumps(payload).encode(), TokenTable()),
        ):
            with pytest.raises(BadReply) as caught:
                read()
            assert caught.value.reason == "malformed_text"
