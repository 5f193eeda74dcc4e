"""Items: a prompt, how its answer is graded, and a reference answer; packaged, or from a file of the user's own.

A line of JSON is an item: {"id": …, "prompt": …, "check": {"kind": …}, "reference": …}. Unknown fields of an item are
ignored; those of a check are refused, because a rule that is not read would let every answer pass.
"""

import hashlib
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from bitnet_core.errors import BitnetError, UsageError, explained
from bitnet_core.files import asset
from bitnet_core.files.regular import read_bounded
from bitnet_core.files.repeated import Repeated, require_no_repeats
from bitnet_core.suites.refusals import plain
from bitnet_core.suites.schema import refuse_schema
from bitnet_core.text import is_utf8

PACKAGED = ("json", "extraction", "tools", "instructions", "arithmetic")
"""Packaged suites, each a file in assets/eval. All of them together are called `checks`."""
ALL_PACKAGED = "checks"
NO_SUITE = "none"
OWN = "own"
"""The suite of the user's own items."""
_FILE_BYTES = 1 << 26
_DEEPEST = 32
_SHOWN = 160
_GOLDEN = (5**0.5 - 1) / 2
_T = TypeVar("_T")
Texts = Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1)]


def _refuse_blank(phrases: Texts) -> None:
    """ValueError for a phrase with nothing to look for, which every answer would have."""
    for phrase in phrases:
        if not plain(phrase).strip():
            raise ValueError(f"{phrase[:20]!r} has nothing to look for")


class _Check(Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """What an answer has to be."""


class JsonCheck(_Check, tag="json", frozen=True):
    """One JSON object or array that fits a schema (of the keywords in `schema.py`)."""

    schema: dict[str, Any]

    def __post_init__(self) -> None:
        refuse_schema(self.schema)


class ToolCheck(_Check, tag="tool", frozen=True):
    """A call {"name": …, "arguments": {…}}, with the accepted values of each argument; others are not allowed."""

    name: Annotated[str, Meta(min_length=1)]
    arguments: dict[str, Annotated[list[Any], Meta(min_length=1)]]
    optional: list[str] = []


class ExtractCheck(_Check, tag="extract", frozen=True):
    """A short answer that has one of `accepted` and none of `rejected`, which are other things in the same text."""

    accepted: Texts
    rejected: Texts

    def __post_init__(self) -> None:
        _refuse_blank(self.accepted)


class NumberCheck(_Check, tag="number", frozen=True):
    """One number, exactly; `units` may stand beside it, such as "$" or "km"."""

    value: str
    units: list[str] = []

    def __post_init__(self) -> None:
        try:
            finite = Decimal(self.value).is_finite()
        except InvalidOperation:
            finite = False
        if not finite:
            raise ValueError(f"{self.value[:20]!r} is not a number")


class TextCheck(_Check, tag="text", frozen=True):
    """A text that keeps every rule. `contains` is required, so that an empty phrase does not pass."""

    contains: Texts
    """Words or phrases, whatever their case."""
    excludes: list[str] = []
    words: tuple[int, int] | None = None
    """The fewest and the most words."""
    sentences: int | None = None
    lines: int | None = None
    """Lines that are not blank."""
    paragraphs: int | None = None
    bullets: int | None = None
    """Lines that begin with a hyphen, an asterisk or a bullet; there may be no other lines."""
    numbered: int | None = None
    """Lines that begin with 1., 2., …; there may be no other lines."""
    starts: str = ""
    ends: str = ""
    case: Literal["upper", "lower", ""] = ""
    without: str = ""
    """Letters or signs that must not occur."""
    repeats: dict[str, int] = {}
    """How often a word occurs, exactly."""

    def __post_init__(self) -> None:
        _refuse_blank(self.contains)


Check = JsonCheck | ToolCheck | ExtractCheck | NumberCheck | TextCheck


class Item(Struct, frozen=True):
    """A prompt for one user's turn. `reference` is an answer that passes."""

    id: Annotated[str, Meta(min_length=1, max_length=100)]
    prompt: Annotated[str, Meta(min_length=1, max_length=20_000)]
    check: Check
    reference: Annotated[str, Meta(min_length=1)]

    @property
    def hash(self) -> str:
        """Of prompt and check: two models are compared on items with equal hashes."""
        return hashlib.sha256(msgspec.json.encode([self.prompt, self.check], order="sorted")).hexdigest()[:32]


def load_items(path: Path) -> list[Item]:
    """The items of a file of JSON lines, blank lines skipped.

    BitnetError names the file, and the line of a mistake with what is wrong there.
    """
    try:
        data = read_bounded(path, _FILE_BYTES)
    except FileNotFoundError as error:
        raise BitnetError(f"The item file {path} does not exist; correct EVAL_ITEMS_FILE.") from error
    except OSError as error:
        raise BitnetError(f"The item file {path} can't be read {explained(error, 'check its path')}.") from error
    items: dict[str, Item] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        item = _item(line, where)
        if item.id in items:
            raise BitnetError(f"{where}: the id {item.id!r} stands on an earlier line too; give each item its own.")
        items[item.id] = item
    if not items:
        raise BitnetError(f"The item file {path} holds no items; put at least one line into it.")
    return list(items.values())


def _item(line: bytes, where: str) -> Item:
    try:
        if _may_be_deep(line):
            raise RecursionError
        item = msgspec.json.decode(line, type=Item)
        require_no_repeats(line)
        fault = "" if is_utf8(item.prompt + item.reference) else "it holds half a character"
    except RecursionError:
        fault = "it is nested too deeply"
    except UnicodeDecodeError:
        fault = "it is not UTF-8"
    except Repeated as error:
        fault = str(error)
    except msgspec.ValidationError as error:
        fault = str(error)
    except msgspec.DecodeError as error:
        fault = f"it is not JSON ({error})"
    if fault:
        raise BitnetError(f"{where}: {fault[:_SHOWN].rstrip('.')}; correct this item.")
    return item


def _may_be_deep(line: bytes) -> bool:
    depth = deepest = 0
    for sign in line:
        if sign in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in b"]}":
            depth -= 1
    return deepest > _DEEPEST


def packaged(names: Sequence[str]) -> list[str]:
    """The packaged suites that `names` ask for, in their own order; `checks` is all of them."""
    return [name for name in PACKAGED if name in names or ALL_PACKAGED in names]


def suite_names(text: str, others: Sequence[str] = ()) -> list[str]:
    """The names in EVAL_SUITE, without repeats. UsageError for one that is neither packaged nor in `others`."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if names == [NO_SUITE]:
        return []
    for name in names:
        if name not in (*PACKAGED, ALL_PACKAGED, *others):
            known = ", ".join((ALL_PACKAGED, *PACKAGED, *others, NO_SUITE))
            raise UsageError(f"EVAL_SUITE names {name[:40]!r}, which is not a suite; choose from {known}.")
    return names


def load_suites(names: Sequence[str], own: Path | None, limit: int) -> dict[str, list[Item]]:
    """The items of packaged suites, and of a file of the user's own, at most `limit` of each; 0 is no limit."""
    suites = {name: load_items(asset("eval", f"{name}.jsonl")) for name in packaged(names)}
    if own is not None:
        suites[OWN] = load_items(own)
    return {name: spread(items, limit) for name, items in suites.items()}


def spread(items: Sequence[_T], limit: int) -> list[_T]:
    """At most `limit` items, from all of the file, because neighbours are alike; all of them for 0.

    A smaller limit gives some of the items of a larger one: the fractions of multiples of the golden ratio are spread
    evenly, and those below a bound are so too.
    """
    places = sorted(range(len(items)), key=lambda place: place * _GOLDEN % 1)
    return [items[place] for place in sorted(places[:limit] if limit else places)]
