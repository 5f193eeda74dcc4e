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

A line is shorter than 1 MiB, and readers pass over longer ones. In an event that would be longer, texts are cut and
end in `… [cut; N characters]`; if that is not enough, optional fields are left out.
"""


def events_page() -> str:
    """The text of docs/events.md: one table per kind."""
    shared = Event.__struct_fields__
    every = _section("Every event", Event) + "\n| `kind` | text | always |"
    kinds = [_section(f"`{kind.__struct_config__.tag}`", kind, shared) for kind in KINDS]
    return "\n\n".join([_INTRO.strip(), every, *kinds]) + "\n"


def _section(title: str, kind: type[Event], left_out: tuple[str, ...] = ()) -> str:
    about = " ".join((kind.__doc__ or "").split())
    lines = [f"## {title}", "", about, "", "| field | type | present |", "|---|---|---|"]
    for field in msgspec.structs.fields(kind):
        if field.name not in left_out:
            present = "sometimes" if UnsetType in typing.get_args(field.type) else "always"
            lines.append(f"| `{field.name}` | {_words(field.type)} | {present} |")
    return "\n".join(lines)


def _words(found: Any) -> str:
    container, parts = typing.get_origin(found), typing.get_args(found)
    if container in (typing.Union, types.UnionType):
        return " or ".join(_words(part) for part in parts if part is not UnsetType)
    if container not in (dict, list):
        return _WORDS[found]
    item = _words(parts[-1])
    return f"{'list' if container is list else 'object'} of {f'({item})' if ' or ' in item else item}"


if __name__ == "__main__":
    Path("docs/events.md").write_text(events_page(), encoding="utf-8")
