"""Questions of bfcl-eval become items that their own reference passes, and wrong calls don't."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.suites.graders import grade
from bitnet_core.suites.items import Item
from bitnet_core.suites.tool_items import load_tool_items
from tests.suites import small_wheel
from tests.suites.test_fetch import stored

TOOL = {"name": "add", "parameters": {"type": "dict", "properties": {}}}


def question(name: str, *messages: str) -> dict[str, Any]:
    turn = [{"role": "user", "content": message} for message in messages]
    return {"id": name, "question": [turn], "function": [TOOL]}


def read(tmp_path: Path, questions: list[Any], answers: list[Any], limit: int | None = None) -> list[Item]:
    files = {small_wheel.QUESTIONS: small_wheel.lines(questions), small_wheel.ANSWERS: small_wheel.lines(answers)}
    data = small_wheel.packed(small_wheel.members() | files)
    stored(data, tmp_path)
    return load_tool_items(small_wheel.benchmark(small_wheel.package(data), kind="calls"), limit, tmp_path)


def test_one_call_with_accepted_values(tmp_path: Path) -> None:
    truth = {"add": {"a": [2, "two"], "b": ["", 1], "c": [""]}}
    [item] = read(tmp_path, [question("q", "add two")], [{"id": "q", "ground_truth": [truth]}])
    assert item.id == "small/q"
    assert item.prompt.endswith("add two") and json.dumps(TOOL) in item.prompt
    assert json.loads(item.reference) == {"name": "add", "arguments": {"a": 2}}

    def passes(name: str, **arguments: Any) -> bool:
        return grade(item, json.dumps({"name": name, "arguments": arguments})).passed

    assert grade(item, item.reference).passed
    assert passes("add", a="Two", b=1)
    assert not passes("add", a=3)
    assert not passes("add", b=1)
    assert not passes("add", a=2, b=2)
    assert not passes("add", a=2, d=2)
    assert not passes("subtract", a=2)


def test_what_is_not_one_plain_call_is_left_out(tmp_path: Path) -> None:
    plain = {"add": {"a": [1]}}
    questions = [question("plain", "x"), question("turns", "x", "y"), question("object", "x"), question("two", "x")]
    answers = [
        {"id": "plain", "ground_truth": [plain]},
        {"id": "turns", "ground_truth": [plain]},
        {"id": "object", "ground_truth": [{"add": {"a": [[{"b": [1]}]]}}]},
        {"id": "two", "ground_truth": [plain, plain]},
    ]
    assert [item.id for item in read(tmp_path, questions, answers)] == ["small/plain"]


@pytest.mark.parametrize(
    ("questions", "answers", "says"),
    [
        ([question("q", "x")], [], "no answer to 'q'"),
        ([{"id": "q"}], [], r"small/questions\.json: line 1 is not as expected"),
        ([question("q", "x")], [{"id": "q", "ground_truth": [{"add": 3}]}], r"small/answers\.json: line 1 is not as"),
    ],
)
def test_damage_is_named(tmp_path: Path, questions: list[Any], answers: list[Any], says: str) -> None:
    with pytest.raises(BitnetError, match=says):
        read(tmp_path, questions, answers)
