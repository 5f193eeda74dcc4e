"""Tables of results as lines: numbers to the right, the widest text column wraps, nothing is cut off unseen."""

from typing import Any

from bitnet_tui.view.numbers import UNKNOWN, finite, significant
from bitnet_tui.view.run_fold import Table
from bitnet_tui.view.spans import Line, Span, line, pad, printable, width, wrap

_GAP = "  "
_NARROWEST = 12
_ORDER = ("qei", "gates", "quality")


def importance(table: Table) -> tuple[int, str]:
    """Sort key: QEI, gates and quality come before the rest."""
    name = table.name.lower()
    return next((place for place, word in enumerate(_ORDER) if word in name), len(_ORDER)), name


def cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and abs(value) < 10**15:
        return f"{value:,}"
    number = finite(value)
    if number is not None:
        return significant(number, 4)
    return printable(" ".join(str(value).split()))


def table_lines(table: Table, cells: int) -> tuple[Line, ...]:
    """Name, heading, rule, rows. A row that needs more room than there is goes on below itself."""
    count = max([len(table.columns), *(len(row) for row in table.rows)], default=0)
    if count == 0:
        return (line(Span(table.name, "title")), line(Span("nothing in it", "label")))
    heads = [*table.columns, *[""] * (count - len(table.columns))]
    rows = [[cell(value) for value in (*row, *[""] * (count - len(row)))] for row in table.rows]
    numeric = [_numeric(table, column) for column in range(count)]
    widths = [max([width(heads[c]), *(width(row[c]) for row in rows)]) for c in range(count)]
    widths = _shrunk(widths, numeric, cells - len(_GAP) * (count - 1))
    lines: list[Line] = [line(Span(table.name.replace("_", " "), "title"))]
    lines.append(_row(heads, widths, numeric, "label"))
    lines.append(line(Span(_GAP.join("─" * w for w in widths), "faint")))
    for row in rows:
        pieces = [wrap(text, w) for text, w in zip(row, widths, strict=True)]
        for depth in range(max(len(piece) for piece in pieces)):
            texts = [piece[depth] if depth < len(piece) else "" for piece in pieces]
            lines.append(_row(texts, widths, numeric, ""))
    return tuple(lines)


def _numeric(table: Table, column: int) -> bool:
    values = [row[column] for row in table.rows if column < len(row) and row[column] is not None]
    return bool(values) and sum(finite(value) is not None for value in values) * 2 > len(values)


def _shrunk(widths: list[int], numeric: list[bool], room: int) -> list[int]:
    """Take from the widest text columns, then from any, until the table fits or nothing can give."""
    widths = list(widths)
    for candidates in ([c for c, number in enumerate(numeric) if not number], list(range(len(widths)))):
        while sum(widths) > room and candidates:
            widest = max(candidates, key=lambda column: widths[column])
            if widths[widest] <= _NARROWEST:
                break
            widths[widest] -= 1
    return widths


def _row(texts: list[str], widths: list[int], numeric: list[bool], style: str) -> Line:
    cells = (pad(text, w, right=right) for text, w, right in zip(texts, widths, numeric, strict=True))
    return line(Span(_GAP.join(cells).rstrip(), style))
