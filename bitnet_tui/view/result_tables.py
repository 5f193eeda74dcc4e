"""The tables of results: which comes first, how one is laid out, what its figures mean."""

from collections.abc import Sequence

from bitnet_core.runs.events import Table
from bitnet_core.tables import table_parts
from bitnet_core.text import capital, flat
from bitnet_tui.remedies import by_keys, in_app
from bitnet_tui.view.glossary import MEANINGS
from bitnet_tui.view.spans import Line, Span, line, wrapped

_FIRST_TABLES = ("qei", "gates", "quality", "imitation")
_OF_SENTENCES = ("qei", "gates")
"""Tables whose text is all the core's; others have names and texts of models."""
_EXPLAINED = ("QEI", "imitation")
_VERDICTS = {"fail": "bad", "pass": "good"}


def in_order(tables: Sequence[Table]) -> list[Table]:
    """QEI first, then what it is made of."""
    return sorted(tables, key=_importance)


def _importance(table: Table) -> tuple[int, str]:
    name = table.name.lower()
    return next((place for place, word in enumerate(_FIRST_TABLES) if word in name), len(_FIRST_TABLES)), name


def table_lines(table: Table, cells: int) -> tuple[Line, ...]:
    """Name, heading, rule and rows; `bitnet_core.text` does the layout."""
    name = "QEI" if table.name == "qei" else flat(table.name.replace("_", " "))
    title = line(Span(name, "title"))
    if not table.columns and not any(table.rows):
        return title, line(Span("empty", "label"))
    as_said = in_app if table.name in _OF_SENTENCES else by_keys
    ordered = sorted(table.rows, key=_met) if table.name == "gates" else table.rows
    said = [[as_said(one) if isinstance(one, str) else one for one in row] for row in ordered]
    heading, rule, rows = table_parts(table.columns, said, cells)
    names = (line(Span(text, "label")) for text in heading)
    at = (
        heading[0].find(str(table.columns[1])) if table.name == "gates" and heading and len(table.columns) > 1 else -1
    )
    shown = (_judged(text, at) for text in rows)
    return title, *names, line(Span(rule, "faint")), *shown, *_meanings(table, cells)


def _judged(text: str, at: int) -> Line:
    """A gate's line, with the colour of the verdict that begins at a cell."""
    word = text[at:].split(" ", 1)[0] if at >= 0 else ""
    return line(text[:at], Span(word, _VERDICTS[word]), text[at + len(word) :]) if word in _VERDICTS else line(text)


def _met(row: Sequence[object]) -> int:
    """The place of a gate among the others: those that failed come first, those that were met last."""
    verdicts = ("fail", "not measurable", "pass")
    return verdicts.index(row[1]) if len(row) > 1 and row[1] in verdicts else 1


def _meanings(table: Table, cells: int) -> list[Line]:
    """What the figures of the `qei` table mean."""
    if table.name != "qei":
        return []
    first = {flat(str(row[0])) for row in table.rows if row}
    return [
        one
        for name in _EXPLAINED
        if name in first and (what := MEANINGS[name].what)
        for one in wrapped("", f"{capital(name)}: {what[0].lower()}{what[1:]}", "label", cells)
    ]
