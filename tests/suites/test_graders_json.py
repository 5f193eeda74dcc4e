"""JSON answers: what models wrap around JSON passes; what is not the asked JSON fails, whatever it looks like."""

import pytest

from bitnet_core.suites.schema import mismatch, refuse_schema
from tests.suites.items import item, reason

PERSON = item(
    "json",
    schema={
        "type": "object",
        "properties": {
            "name": {"const": "Ada"},
            "age": {"type": "integer", "minimum": 30, "maximum": 40},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2, "uniqueItems": True},
            "mail": {"type": ["string", "null"], "minLength": 3, "maxLength": 5},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
)
GOOD = '{"name": "Ada", "age": 36}'
DEEP = "[" * 5000 + "]" * 5000


FITTING = [
    GOOD,
    f"\ufeff{GOOD}\n",
    f"```json\n{GOOD}\n```",
    f"```\n{GOOD}\n```",
    f"```JSON {GOOD}```",
    f"Here is the object:\n\n```json\n{GOOD}\n```\nIt's valid JSON.",
    f"Sure! It's this: {GOOD} Let me know if it helps.",
    f"As asked [see below], {GOOD} // her age",
    f"<think>Maybe {{}}? No.</think>\n{GOOD}",
    '{\n  "age": 36.0,\n  "name": "Ada"\n}',
    '{"name": "\\u0041da", "age": 3.6e1}',
    '{"name": "Ada", "age": 36, "tags": ["x", "y"], "mail": null}',
    '{"name": "Ada", "age": 36, "mail": "a@b"}',
]


@pytest.mark.parametrize("answer", FITTING, ids=range(len(FITTING)))
def test_a_fitting_value_passes_however_it_is_wrapped(answer: str) -> None:
    assert reason(PERSON, answer) == ""


UNFIT = [
    ("", "empty"),
    ("   \n", "empty"),
    ("<think>The object is " + GOOD, "empty"),
    ("Ada, 36", "no JSON"),
    ('"Ada"', "no JSON"),
    ("null", "no JSON"),
    ("I can't do that.", "no JSON"),
    (f"I'm sorry, I can't share personal data such as {GOOD}.", "refusal"),
    (f"I cannot do this.\n```json\n{GOOD}\n```", "refusal"),
    (f"As an AI language model I have no age. {GOOD}", "refusal"),
    (f"{GOOD}\n{GOOD}", "several"),
    (f"{GOOD} or {{}}", "several"),
    (f"```json\n{GOOD}\n```\n```json\n{{}}\n```", "several"),
    (f"```json\n{GOOD}\n```\nor {{}}", "several"),
    ("{'name': 'Ada', 'age': 36}", "mistake"),
    ('{"name": "Ada", "age": 36,}', "mistake"),
    ('{"name": "Ada" /* first */, "age": 36}', "mistake"),
    ('{name: "Ada", age: 36}', "mistake"),
    ('{"name": "Ada", "age": 36', "no JSON"),
    ('{"name": "Ada", "age": 036}', "mistake"),
    ('{"name": "Ada", "age": 36, "age": 36}', "twice"),
    ('{"name": "Bob", "name": "Ada", "age": 36}', "twice"),
    ('{"name": "Ada", "age": NaN}', "NaN"),
    ('{"name": "Ada", "age": Infinity}', "Infinity"),
    ('{"name": "Ada", "age": 1e999}', "too large"),
    ('{"name": "Ada", "age": ' + "9" * 5000 + "}", "too large"),
    ('{"name": "Ada", "age": "36"}', "not of type"),
    ('{"name": "Ada", "age": true}', "not of type"),
    ('{"name": "Ada", "age": 36.5}', "not of type"),
    ('{"name": "Ada", "age": null}', "not of type"),
    ('{"name": "Ada", "age": 29}', "too small"),
    ('{"name": "Ada", "age": 41}', "too large"),
    ('{"name": "ada", "age": 36}', "expected"),
    ('{"name": "\u0410da", "age": 36}', "expected"),
    ('{"name": "Ada ", "age": 36}', "expected"),
    ('{"name": "Ada\\u200b", "age": 36}', "expected"),
    ('{"Name": "Ada", "age": 36}', "missing"),
    ('{"name": "Ada"}', "missing"),
    ('{"name": "Ada", "age": 36, "x": 1}', "not allowed"),
    (f"[{GOOD}]", "not of type"),
    (f'{{"person": {GOOD}}}', "missing"),
    ('"{\\"name\\": \\"Ada\\", \\"age\\": 36}"', "no JSON"),
    ('{"name": "Ada", "age": 36, "tags": []}', "few"),
    ('{"name": "Ada", "age": 36, "tags": ["a", "b", "c"]}', "many"),
    ('{"name": "Ada", "age": 36, "tags": ["a", "a"]}', "twice"),
    ('{"name": "Ada", "age": 36, "tags": [1]}', "not of type"),
    ('{"name": "Ada", "age": 36, "mail": "ab"}', "short"),
    ('{"name": "Ada", "age": 36, "mail": "a@b.cd"}', "long"),
    (f'{{"name": "Ada", "age": 36, "tags": {DEEP}}}', "deep"),
    (DEEP, "deep"),
    ("[" * 30_000, "no JSON"),
    (GOOD + " " * 40_000, "longer"),
    ('{"name": "Ada", "age": 36, "tags": ["\x00"]}', "mistake"),
]


@pytest.mark.parametrize(("answer", "why"), UNFIT, ids=range(len(UNFIT)))
def test_anything_else_fails_and_says_why(answer: str, why: str) -> None:
    found = reason(PERSON, answer)
    assert why in found


def test_json_equality_tells_true_from_one() -> None:
    assert mismatch([1, {"a": [True]}], {"const": [1.0, {"a": [True]}]}) == ""
    assert mismatch(True, {"enum": [1]})
    assert mismatch(0, {"const": False})
    assert mismatch([1, True], {"uniqueItems": True}) == ""
    assert mismatch([0, False, 0.0], {"uniqueItems": True})


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://host/schema"},
        {"pattern": "(a+)+$"},
        {"type": "text"},
        {"type": []},
        {"minItems": -1},
        {"minItems": True},
        {"enum": []},
        {"minimum": "1"},
        {"required": "name"},
        {"properties": {"a": {"format": "date"}}},
        {"items": [{}]},
        {"additionalProperties": {}},
        {"properties": {"a": 1}},
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema: object) -> None:
    with pytest.raises(ValueError, match="schema"):
        refuse_schema(schema)


def test_a_bottomless_schema_is_refused() -> None:
    schema: dict[str, object] = {}
    for _ in range(20):
        schema = {"items": schema}
    with pytest.raises(ValueError, match="deep"):
        refuse_schema(schema)


# -- tool calls ------------------------------------------------------------------------------------------
CALL = item(
    "tool", name="set_light", arguments={"room": ["kitchen"], "on": [True], "level": [5, 7.5]}, optional=["level"]
)
CALLED = '{"name": "set_light", "arguments": {"room": "kitchen", "on": true}}'


CALLS = [
    CALLED,
    f"```json\n{CALLED}\n```",
    f"<tool_call>\n{CALLED}\n</tool_call>",
    f"[{CALLED}]",
    f"I'll turn it on. {CALLED}",
    '{"arguments": {"on": true, "room": " Kitchen"}, "name": "set_light"}',
    '{"name": "set_light", "arguments": "{\\"room\\": \\"kitchen\\", \\"on\\": true}"}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true, "level": 5.0}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true, "level": 7.5}}',
]


@pytest.mark.parametrize("answer", CALLS, ids=range(len(CALLS)))
def test_the_call_passes_in_the_forms_that_models_write(answer: str) -> None:
    assert reason(CALL, answer) == ""


NOT_CALLS = [
    "set_light(room='kitchen', on=True)",
    "I turned on the light in the kitchen.",
    f"I'm sorry, I can't control lights. {CALLED}",
    f"I cannot call tools, but it would be\n```json\n{CALLED}\n```",
    f"{CALLED}{CALLED}",
    f"[{CALLED}, {CALLED}]",
    f"<tool_call>{CALLED}</tool_call><tool_call>{CALLED}</tool_call>",
    "[]",
    "{}",
    '["set_light"]',
    '{"name": "set_light"}',
    '{"name": "set_light", "arguments": null}',
    '{"name": "set_light", "arguments": []}',
    '{"name": "set_light", "arguments": {}}',
    '{"name": "set_light", "arguments": "kitchen"}',
    '{"name": "set_light", "arguments": "[\\"kitchen\\", true]"}',
    '{"name": "Set_Light", "arguments": {"room": "kitchen", "on": true}}',
    '{"name": "set_heating", "arguments": {"room": "kitchen", "on": true}}',
    '{"name": ["set_light"], "arguments": {"room": "kitchen", "on": true}}',
    '{"tool": "set_light", "arguments": {"room": "kitchen", "on": true}}',
    '{"name": "set_light", "parameters": {"room": "kitchen", "on": true}}',
    '{"name": "set_light", "room": "kitchen", "on": true}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true}, "name": "set_light"}',
    '{"name": "set_light", "arguments": {"room": "bath", "room": "kitchen", "on": true}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true}, "id": 3}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": "true"}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": 1}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": false}}',
    '{"name": "set_light", "arguments": {"room": "kitchen"}}',
    '{"name": "set_light", "arguments": {"room": "k\u0456tchen", "on": true}}',
    '{"name": "set_light", "arguments": {"room": ["kitchen"], "on": true}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true, "level": "5"}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true, "level": NaN}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true, "level": null}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true, "colour": "red"}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true,}}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": True}}',
    '{"calls": [{"name": "set_light", "arguments": {"room": "kitchen", "on": true}}]}',
    '{"name": "set_light", "arguments": {"room": "kitchen", "on": true}',
    '{"name": "set_light", "arguments": {"room": ' + DEEP + ', "on": true}}',
]


@pytest.mark.parametrize("answer", NOT_CALLS, ids=range(len(NOT_CALLS)))
def test_another_call_fails(answer: str) -> None:
    assert reason(CALL, answer)


def test_a_call_without_arguments() -> None:
    pause = item("tool", name="pause", arguments={})
    assert reason(pause, '{"name": "pause", "arguments": {}}') == ""
    assert reason(pause, '{"name": "pause", "arguments": {"now": true}}')
