"""A table as text, the same on the command line and in the app: columns aligned, wide ones wrapped.

Pure functions.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from bitnet_core.text import BYTES, UNKNOWN, finite, flat, number, pad, share, size, width, wrap

_GAP = "  "
SHARES = frozenset({"top-1 agreement"})
"""Rows and columns whose numbers are shares."""
_OF_BYTES = f", {BYTES}"
_NARROWEST = 12
_WIDEST = 200
"""The widest column of a table without a limit. A longer cell moves the rest of its own row, and no other row."""


def cell(value: Any, *, as_bytes: bool = False, as_share: bool = False) -> str:
    """A value as the text of a table's cell."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return size(finite(value)) if as_bytes else share(value) if as_share else number(value)
    return flat(str(value))


def row_texts(columns: Sequence[str], row: Sequence[Any]) -> list[str]:
    """The cells of a row as texts, in a table with these columns.

    In a column named `bytes`, and in a row whose first cell ends in `, bytes`, numbers are written as sizes; in those
    of `SHARES` in percent.
    """
    first = str(row[0]) if row else ""
    of_bytes = first.endswith(_OF_BYTES)
    texts = [
        cell(value, as_bytes=of_bytes or head == BYTES, as_share=bool({first, head} & SHARES))
        for value, head in zip(row, itertools.chain(columns, itertools.repeat("")), strict=False)
    ]
    return [texts[0].removesuffix(_OF_BYTES), *texts[1:]] if of_bytes else texts


def table_parts(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], cells: int | None = None
) -> tuple[list[str], str, list[str]]:
    """The lines of the heading, the rule below it, and the lines of the rows, with numbers aligned to the right.

    To fit into `cells`, wide columns are wrapped; without them, nothing is. Cells are as in `row_texts`.
    """
    across = max([len(columns), *(len(row) for row in rows)], default=0)
    heads = [flat(column) for column in columns] + [""] * (across - len(columns))
    filled = [[*row, *[""] * (across - len(row))] for row in rows]
    texts = [row_texts(heads, row) for row in filled]
    numeric = [_is_numeric([row[place] for row in filled]) for place in range(across)]
    widths = [max([width(heads[place]), *(width(row[place]) for row in texts)]) for place in range(across)]
    if cells is None:
        widths = [min(one, _WIDEST) for one in widths]
    else:
        floors = [_longest_word([heads[place], *(row[place] for row in texts)]) for place in range(across)]
        whole = [not any(" " in row[place] for row in texts) for place in range(across)]
        widths = _narrowed(widths, floors, numeric, whole, cells - len(_GAP) * (across - 1))
    rule = _GAP.join("─" * one for one in widths)
    lines = [_wrapped(row, widths, numeric, whole=cells is None) for row in (heads, *texts)]
    return lines[0], rule, [part for row in lines[1:] for part in row]


def render_table(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], cells: int | None = None) -> str:
    """A table below its name, as the command line prints it."""
    inner = None if cells is None else cells - len(_GAP)
    heading, rule, body = table_parts(columns, rows, inner)
    return "\n".join([f"── {flat(name)} ──", *(_GAP + line for line in (*heading, rule, *body))])


def _is_numeric(values: Iterable[Any]) -> bool:
    known = [value for value in values if value is not None]
    return bool(known) and sum(finite(value) is not None for value in known) * 2 > len(known)


def _longest_word(texts: Iterable[str]) -> int:
    return max(width(word) for text in texts for word in text.split(" "))


def _narrowed(
    widths: list[int], longest_words: list[int], numeric: list[bool], whole: list[bool], room: int
) -> list[int]:
    """Shrink the widest columns until the table fits or all are as narrow as allowed.

    Sentences give way first, then columns of single words (`whole`), such as ids that are copied, then the headings
    of numbers, then everything down to its longest word.
    """
    floors = [min(one, _NARROWEST) for one in longest_words]
    widths = [min(one, max(room, _NARROWEST)) for one in widths]
    text_floors = [one if number else _NARROWEST for one, number in zip(widths, numeric, strict=True)]
    number_floors = [one if number else _NARROWEST for one, number in zip(floors, numeric, strict=True)]
    keeping = [
        max(one, word) if kept else one for one, word, kept in zip(text_floors, longest_words, whole, strict=True)
    ]
    for allowed in (keeping, text_floors, number_floors, floors):
        while sum(widths) > room:
            shrinkable = [column for column, least in enumerate(allowed) if widths[column] > least]
            if not shrinkable:
                break
            widths[max(shrinkable, key=lambda column: widths[column])] -= 1
    return widths


def _wrapped(texts: Sequence[str], widths: Sequence[int], numeric: Sequence[bool], *, whole: bool) -> list[str]:
    """One row of a table, on as many lines as its longest cell needs; with `whole`, on one."""
    columns = [[text] if whole else wrap(text, one) for text, one in zip(texts, widths, strict=True)]
    lines = []
    for parts in itertools.zip_longest(*columns, fillvalue=""):
        placed = (
            part if whole and width(part) > one else pad(part, one, right=right)
            for part, one, right in zip(parts, widths, numeric, strict=True)
        )
        lines.append(_GAP.join(placed).rstrip())
    return lines
