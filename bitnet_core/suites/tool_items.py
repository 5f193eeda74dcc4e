"""Items that ask for one tool call, from the questions and answers of bfcl-eval.

A right answer is one call with accepted values; "" among them means that the argument may be left out. Questions with
several messages, and those whose arguments are objects, which have accepted values of their own inside, are left out.
"""

import json
from pathlib import Path
from typing import Any

import msgspec

from bitnet_core.errors import BitnetError
from bitnet_core.suites.benchmarks import Benchmark
from bitnet_core.suites.fetch import opened
from bitnet_core.suites.items import Item, ToolCheck
from bitnet_core.suites.requests_file import AGAIN, decoded, lines, sample

_HOW = 'To call one, reply only with JSON like {"name": "tool_name", "arguments": {"argument": "value"}}.'


class _Message(msgspec.Struct):
    role: str
    content: str


class _Question(msgspec.Struct):
    id: str
    question: list[list[_Message]]
    function: list[dict[str, Any]]


class _Answer(msgspec.Struct):
    id: str
    ground_truth: list[dict[str, dict[str, list[Any]]]]


def load_tool_items(benchmark: Benchmark, limit: int | None = None, cache: Path | None = None) -> list[Item]:
    """The items of a benchmark of tool calls, or `limit` of them; see `sample`.

    BitnetError if it was not fetched, or its files are damaged.
    """
    of_questions, of_answers = benchmark.members
    with opened(benchmark, cache) as (questions_file, answers_file):
        questions = [decoded(line, _Question, of_questions, n) for n, line in lines(questions_file, of_questions)]
        answers = [decoded(line, _Answer, of_answers, n) for n, line in lines(answers_file, of_answers)]
    right = {answer.id: answer.ground_truth for answer in answers}
    items = []
    for question in questions:
        if question.id not in right:
            raise BitnetError(f"{of_answers}: there is no answer to {question.id[:60]!r}; {AGAIN}")
        item = _item(benchmark.name, question, right[question.id])
        if item is not None:
            items.append(item)
    return sample(items, limit)


def _item(suite: str, question: _Question, calls: list[dict[str, dict[str, list[Any]]]]) -> Item | None:
    """None for an item that can't be graded as one call."""
    messages = [message for turn in question.question for message in turn]
    if len(messages) != 1 or len(calls) != 1 or len(calls[0]) != 1:
        return None
    [(name, arguments)] = calls[0].items()
    if not all(arguments.values()) or any(_has_object(values) for values in arguments.values()):
        return None
    optional = [argument for argument, values in arguments.items() if "" in values]
    accepted = {argument: [one for one in values if one != ""] or [""] for argument, values in arguments.items()}
    tools = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in question.function)
    call = {"name": name, "arguments": {one: values[0] for one, values in accepted.items() if one not in optional}}
    return Item(
        id=f"{suite}/{question.id}",
        prompt=f"You can call these tools:\n{tools}\n{_HOW}\n\n{messages[0].content}",
        check=ToolCheck(name, accepted, optional),
        reference=json.dumps(call, ensure_ascii=False),
    )


def _has_object(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_has_object, value)))
