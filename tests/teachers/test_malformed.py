"""Whatever a server sends, the outcome is a result that can be stored or a BadReply, never another exception."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.teachers.answers.result import BadReply, as_bad_reply
from bitnet_core.teachers.chat import HttpChat
from bitnet_core.teachers.wire.anthropic import AnthropicMessages
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.steps import TokenTable
from tests.fuzzing import fuzz
from tests.teachers.server import FIXTURES, chat_body, entry, read_payload, steps_of

WIRES: tuple[type[HttpChat], ...] = (OpenAIChat, AnthropicMessages, GeminiContent)
JUNK = [None, True, False, 0, 3, -1, 1.5, "x", "", "\ud83d", [], [1], [[]], {}, {"x": 1}, 10**400, 2**40, [True]]


def of_wire(name: str) -> type[HttpChat]:
    return GeminiContent if "gemini" in name else AnthropicMessages if "anthropic" in name else OpenAIChat


BODIES = [(of_wire(path.name), json.loads(path.read_bytes())) for path in sorted(FIXTURES.glob("*.json"))]
STREAMS = [
    (
        of_wire(path.name),
        [json.loads(line[6:]) for line in path.read_text().splitlines() if line.startswith("data: {")],
    )
    for path in sorted(FIXTURES.glob("*.sse"))
]


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    for key in list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ():
        yield tree, key
        yield from places(tree[key])


def corrupted(tree: Any, draw: Any, times: int) -> Any:
    tree = copy.deepcopy(tree)
    for _ in range(times):
        found = list(places(tree))
        if found:
            container, key = found[draw(st.integers(0, len(found) - 1))]
            container[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
    return tree


UNREAD = "undocumented"
"""In the words for an answer that failed a reader: what is known to come is read and told in words of its own."""


@pytest.mark.parametrize("junk", [{}, [], [1], True, 3, 1.5], ids=str)
def test_no_value_of_another_type_fails_a_reader(junk: Any) -> None:
    for wire, events in STREAMS:
        for number, event in enumerate(events):
            for name in event:
                spoilt = [*events[:number], {**event, name: junk}, *events[number + 1 :]]
                check_stream(wire, spoilt, known=True)
    for wire, payload in BODIES:
        whole = copy.deepcopy(payload)
        for container, key in list(places(whole)):
            kept, container[key] = container[key], junk
            check(wire, whole, known=True)
            container[key] = kept


def check(wire: type[HttpChat], payload: Any, *, known: bool = False) -> None:
    body = json.dumps(payload).encode()
    try:
        result = wire.read_answer(body, TokenTable())
    except BadReply as error:
        assert error.reason
        assert error.body == body
        assert not (known and UNREAD in str(error)), payload
        return
    for text in (result.text, result.finish_reason, result.model):
        text.encode()
    assert 0 <= result.prompt_tokens < 2**31
    assert 0 <= result.completion_tokens < 2**32
    if result.steps is not None:
        assert all(-1 <= step.token_id < 2**31 for step in steps_of(result))


@fuzz(400)
@given(st.data())
def test_a_body_corrupted_anywhere(data: st.DataObject) -> None:
    wire, payload = BODIES[data.draw(st.integers(0, len(BODIES) - 1))]
    check(wire, corrupted(payload, data.draw, data.draw(st.integers(1, 3))))


@fuzz(200)
@given(st.data())
def test_a_stream_corrupted_anywhere(data: st.DataObject) -> None:
    wire, events = STREAMS[data.draw(st.integers(0, len(STREAMS) - 1))]
    check_stream(wire, corrupted(events, data.draw, data.draw(st.integers(1, 3))))


def check_stream(wire: type[HttpChat], events: list[Any], *, known: bool = False) -> None:
    fold = wire.fold()
    try:
        for event in events:
            with as_bad_reply(b"{}"):
                if isinstance(event, dict):
                    fold.add(event)
        whole = fold.answer_body()
    except BadReply as error:
        assert not (known and UNREAD in str(error)), events
        return
    check(wire, whole, known=known)


A = entry("a", -0.5)


@pytest.mark.parametrize("tops", [True, 3, "x", {"a": -0.5}])
def test_candidates_that_are_not_a_list(tops: Any) -> None:
    with pytest.raises(BadReply) as caught:
        read_payload(chat_body("a", [{**A, "top_logprobs": tops}]))
    assert caught.value.reason == "malformed_logprobs"


def test_a_body_that_is_not_json_has_its_own_reason() -> None:
    for body in (b"<html>", b"", b"\xff\xfe", b'{"choices": [', b"[" * 100_000):
        with pytest.raises(BadReply) as caught:
            OpenAIChat.read_answer(body, TokenTable())
        assert caught.value.reason in ("not_json", "malformed")


def test_half_a_surrogate_pair_is_refused_in_every_format() -> None:
    gemini = {"candidates": [{"content": {"parts": [{"text": "abc \ud83d"}]}, "finishReason": "STOP"}]}
    anthropic = {"content": [{"type": "text", "text": "abc \ud83d"}], "stop_reason": "end_turn"}
    for wire, payload in zip(
        WIRES, (chat_body("abc \ud83d", [{**A, "top_logprobs": [A]}]), anthropic, gemini), strict=True
    ):
        with pytest.raises(BadReply) as caught:
            wire.read_answer(json.dumps(payload).encode(), TokenTable())
        assert caught.value.reason == "malformed_text"
