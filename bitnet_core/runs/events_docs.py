"""Writes docs/events.md from the events' structs (`make docs`)."""

import types
import typing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UnsetType

from bitnet_core.runs.events import KINDS, Event

_WORDS: dict[Any, str] = {int: "integer", float: "number", str: "text", type(None): "null", Any: "any value"}
_INTRO = """# Events

Generated from `bitnet_core/runs/events.py` by `make docs`; change it there.

A run appends its events to `logs/<run>/events.jsonl`, one JSON object per line. The field `kind` says which of the
tables below applies. A number that is not finite is written as null. Ignore fields and kinds that you don't know, and
a last line without its end: it is still being written.
"""


def events_page() -> str:
    """The text of docs/events.md: one table per kind."""
    shared = frozenset(field.name for field in msgspec.structs.fields(Event))
    out = [_INTRO.strip(), "", "## Every event", "", _about(Event), ""]
    out += [*_table(Event, frozenset()), "| `kind` | text | always |"]
    for kind in KINDS:
        out += ["", f"## `{kind.__struct_config__.tag}`", "", _about(kind), "", *_table(kind, shared)]
    return "\n".join(out) + "\n"


def _about(kind: type[Event]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _table(kind: type[Event], left_out: frozenset[str]) -> list[str]:
    rows = ["| field | type | present |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if field.name not in left_out:
            parts = _parts(field.type)
            words = " or ".join(_words(part) for part in parts if part is not UnsetType)
            rows.append(f"| `{field.name}` | {words} | {'sometimes' if UnsetType in parts else 'always'} |")
    return rows


def _parts(found: Any) -> tuple[Any, ...]:
    union = typing.get_origin(found) in (typing.Union, types.UnionType)
    return typing.get_args(found) if union else (found,)


def _words(found: Any) -> str:
    container = typing.get_origin(found)
    if container not in (dict, list):
        return _WORDS[found]
    parts = _parts(typing.get_args(found)[-1])
    inner = " or ".join(_words(part) for part in parts)
    return f"{'list' if container is list else 'object'} of {f'({inner})' if len(parts) > 1 else inner}"


def main() -> None:
    """Write the file into the working folder. A test fails when it differs from the structs."""
    Path("docs/events.md").write_text(events_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
