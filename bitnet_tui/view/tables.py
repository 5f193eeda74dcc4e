"""Tables of results as styled lines; `bitnet_core.text` does the layout."""

from bitnet_core.runs.events import Table
from bitnet_core.text import flat, table_parts
from bitnet_tui.view.spans import Line, Span, line

_ORDER = ("qei", "gates", "quality")


def importance(table: Table) -> tuple[int, str]:
    """Sort key: QEI, gates and quality come before the rest."""
    name = table.name.lower()
    return next((place for place, word in enumerate(_ORDER) if word in name), len(_ORDER)), name


def table_lines(table: Table, cells: int) -> tuple[Line, ...]:
    """Name, heading, rule and rows."""
    title = line(Span(flat(table.name.replace("_", " ")), "title"))
    if not table.columns and not any(table.rows):
        return (title, line(Span("empty", "label")))
    heading, rule, rows = table_parts(table.columns, table.rows, cells)
    return (
        title,
        *(line(Span(text, "label")) for text in heading),
        line(Span(rule, "faint")),
        *(line(text) for text in rows),
    )
