"""Which questions llama.cpp gets to see."""

import json

import pytest

from bitnet_core.serving.question import rewritten
from bitnet_core.serving.request import Refused


def test_what_clients_ask_is_passed_on() -> None:
    asked = {
        "model": "m",
        "messages": [{"role": "user", "content": "é\ud83d\ude00\u0000"}],
        "max_tokens": 5,
        "temperature": 0.8,
        "logit_bias": [[1, -5.5]],
        "stream": True,
        "stream_options": {"include_usage": True},
        "response_format": {"type": "json_object"},
    }
    assert json.loads(rewritten(json.dumps(asked | {"tools": None}).encode())) == json.loads(json.dumps(asked))
    assert rewritten(b' {"prompt": "a", "prompt": "b"}') == b'{"prompt":"b"}'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("grammar", 'root ::= "a"'),
        ("grammar_triggers", []),
        ("json_schema", {}),
        ("tools", []),
        ("lora", []),
        ("id_slot", 1),
        ("\x1b[2J", 1),
        ("response_format", {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}),
        ("response_format", {"type": "json_object", "schema": {"minItems": 10**9}}),
        ("response_format", 5),
        ("reasoning_format", "zz"),
        ("reasoning_format", []),
        ("dry_sequence_breakers", ["x"] * 17),
        ("metadata", json.loads("[" * 300 + "]" * 300)),
    ],
)
def test_what_it_does_not_bear_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(Refused) as refused:
        rewritten(json.dumps({"prompt": "a", field: value}).encode())
    assert refused.value.status == 400
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"prompt": ["a"] * 257}, "The request has more than 256 prompts; send them in several."),
        ({"prompt": [[5]] * 257}, "The request has more than 256 prompts; send them in several."),
        ({"prompt": [5, "a"] * 257}, "The request has more than 256 prompts; send them in several."),
        ({"messages": [{}] * 2049}, "The request has more than 2,048 messages; leave the oldest out."),
    ],
)
def test_many_questions_in_one_are_refused(asked: dict[str, object], said: str) -> None:
    """For each of 200,000 prompts llama.cpp kept some kB at once, and memory ran out."""
    with pytest.raises(Refused) as refused:
        rewritten(json.dumps(asked).encode())
    assert (refused.value.status, str(refused.value)) == (413, said)


@pytest.mark.parametrize("prompt", ["a" * 999_999, list(range(100_000)), ["a"] * 256, [list(range(999))] * 256])
def test_a_long_prompt_is_one(prompt: object) -> None:
    assert json.loads(rewritten(json.dumps({"prompt": prompt}).encode()))["prompt"] == prompt


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (5, "Message 2 is not a JSON object."),
        ({"content": "a"}, "The role of message 2 is not a text."),
        ({"role": None, "content": "a"}, "The role of message 2 is not a text."),
        ({"role": "user", "content": "a", "name": 5}, "The name of message 2 is not a text."),
        (
            {"role": "assistant", "content": "a", "reasoning_content": []},
            "The reasoning_content of message 2 is not a text.",
        ),
        (
            {"role": "assistant", "tool_calls": [{"a": 1}]},
            "Message 2 has tool calls, and this server knows no tools; leave them out.",
        ),
        (
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]},
            "Message 2 has a part of the type 'image_url'; this server reads text alone.",
        ),
        (
            {"role": "user", "content": [{"type": "\x1b[2J" + "x" * 99}]},
            f"Message 2 has a part of the type '·[2J{'x' * 56}'; this server reads text alone.",
        ),
        ({"role": "user", "content": [5]}, "Message 2 has a part of the type '5'; this server reads text alone."),
        ({"role": "user", "content": [{"type": "text", "text": None}]}, "A part of message 2 has no text."),
    ],
)
def test_a_message_that_is_more_than_text_is_refused_by_its_number(message: object, said: str) -> None:
    """llama.cpp calls most of them a fault of the server, so clients ask again and again."""
    with pytest.raises(Refused) as refused:
        rewritten(json.dumps({"messages": [{"role": "user", "content": "a"}, message]}).encode())
    assert (refused.value.status, str(refused.value)) == (400, said)


def test_what_is_null_in_a_message_is_left_out() -> None:
    """Clients send back an answer as they have read it."""
    sent = {"role": "assistant", "content": None, "name": None, "tool_calls": [], "audio": None, "annotations": []}
    passed = json.loads(rewritten(json.dumps({"messages": [sent]}).encode()))["messages"]
    assert passed == [{"role": "assistant", "content": None, "tool_calls": [], "annotations": []}]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"5", b'{"prompt":', b'{"prompt":"\xff"}', b'{"prompt":"\\ud800"}', b'{"prompt":NaN}'),
        *(b'{"prompt":1e999}', b"[" * 100_000, b'{"a":' * 100_000, b"\xef\xbb\xbf{}", b'{"prompt":"a"}{}'),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refused, match="The body is not"):
        rewritten(body)
