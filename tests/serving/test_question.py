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
        ("metadata", json.loads("[" * 300 + "]" * 300)),
    ],
)
def test_what_it_does_not_bear_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(Refused) as refused:
        rewritten(json.dumps({"prompt": "a", field: value}).encode())
    assert refused.value.status == 400
    assert str(refused.value).isprintable()


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
