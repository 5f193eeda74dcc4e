"""Cuts events, which a foreign or broken run may write at any length, to what a screen can draw at little cost."""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar

from msgspec import UNSET, structs

from bitnet_core.runs.events import Event, Table, Trace, cut

TEXT_CHARS = 3000
TEXT_LINES = 200
NAME_CHARS = 200
LIST_ITEMS = 500
ROWS = 200
COLUMNS = 20
CELLS = 1500
"""Of one table."""
TABLES = 20
TABLE_CELLS = 3000
"""Of all tables together."""
REASONS = 20
OTHER = "other"

_LONG_TEXTS = ("prompt", "text", "message", "advice", "error", "path")
_E = TypeVar("_E", bound=Event)


def bounded(event: _E) -> _E:
    """The event with its texts, lists and table cut; what is left out of a text or table is said in its place."""
    if isinstance(event, Table):
        return structs.replace(event, **_table(event))
    if isinstance(event, Trace):  # `add_reasons` bounds the sum of what was dropped
        return _trace(event)
    changes: dict[str, Any] = {}
    for name in _may_be_long(type(event)):
        value = getattr(event, name)
        if isinstance(value, str):
            changes[name] = cut_text(value) if name in _LONG_TEXTS else cut(value, NAME_CHARS)
        elif isinstance(value, list) and len(value) > LIST_ITEMS:
            changes[name] = value[:LIST_ITEMS]
    return structs.replace(event, **changes) if changes else event


@cache
def _may_be_long(kind: type[Event]) -> tuple[str, ...]:
    """The fields that can hold a text or a list: of a metric, which comes by the million, few of its forty."""
    return tuple(one.name for one in structs.fields(kind) if any(word in str(one.type) for word in ("str", "list")))


def _trace(event: _E) -> _E:
    """With the texts of an answer cut; what the run itself writes is short."""
    if not isinstance(event, Trace) or not event.pieces:
        return event
    pieces = [cut(piece, NAME_CHARS) for piece in event.pieces[:LIST_ITEMS]]
    masses = event.piece_other[:LIST_ITEMS] if event.piece_other else []
    prompt = cut(event.prompt, NAME_CHARS) if event.prompt else UNSET
    return structs.replace(event, pieces=pieces, piece_other=masses, prompt=prompt)


def cut_text(text: str) -> str:
    """The text, or its beginning and a mark that tells how long it was."""
    short = cut(text, TEXT_CHARS)
    lines = short.split("\n", TEXT_LINES)
    if len(lines) <= TEXT_LINES:
        return short
    count = text.count("\n") + 1
    return "\n".join([*lines[:TEXT_LINES], f"… [cut; {count} lines]"])


def _table(table: Table) -> dict[str, Any]:
    across = max([len(table.columns), *map(len, table.rows)], default=0)
    columns = min(across, COLUMNS)
    most = min(ROWS, CELLS // max(1, columns))
    names = _row(table.columns, columns, "columns")
    rows = [_row(row, columns, "cells") for row in table.rows[:most]]
    left_out = len(table.rows) - most
    if left_out > 0:
        rows.append([f"… and {left_out} more rows"])
    return {"name": cut(table.name, NAME_CHARS), "columns": names, "rows": rows}


def _row(cells: list[Any], most: int, word: str) -> list[Any]:
    kept = [_cell(cell) for cell in cells[:most]]
    left_out = len(cells) - most
    return [*kept, f"… and {left_out} more {word}"] if left_out > 0 else kept


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, int | float) else cut(str(value), NAME_CHARS)


def newest_tables(tables: Iterable[Table]) -> tuple[Table, ...]:
    """The last tables, as many as can be shown, and at least one."""
    kept: list[Table] = []
    cells = 0
    for table in reversed(tuple(tables)):
        cells += len(table.columns) + sum(map(len, table.rows))
        if kept and (len(kept) == TABLES or cells > TABLE_CELLS):
            break
        kept.insert(0, table)
    return tuple(kept)


def add_reasons(before: Iterable[tuple[str, int]], new: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """Sums by reason in alphabetical order. The first reasons keep their own sums; the rest count as `other`."""
    sums = dict(before)
    for name, tokens in new.items():
        reason = cut(name, NAME_CHARS)
        if reason not in sums and len(sums) >= REASONS:
            reason = OTHER
        sums[reason] = sums.get(reason, 0) + tokens
    return tuple(sorted((reason, tokens) for reason, tokens in sums.items() if tokens))
