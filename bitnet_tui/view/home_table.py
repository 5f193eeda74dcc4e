"""The table of experiments as lines: which columns fit, how wide each is, and what a cell of it belongs to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.text import crop, width
from bitnet_tui.remedies import in_app
from bitnet_tui.view.home_columns import COLUMNS, Column
from bitnet_tui.view.home_order import Order
from bitnet_tui.view.spans import Line, Span, cells_of, unstyled
from bitnet_tui.view.workspace import ExperimentRow

GAP = 2
_USUAL_NAME = 20
"""So much of the names is shown before the other texts get what they need."""
_FOR_NAMES, _FOR_USUAL_NAMES = ("size", "student"), ("teacher", "stored", "bits")
"""These columns leave where names would be cut, and where usual ones would be."""
_MOST = {"name": 40, "student": 24, "teacher": 28, "stored": 16}
"""So much of each text is shown before any of them gets more."""


@dataclass(frozen=True)
class Placed:
    """A column and its first cell."""

    column: Column
    left: int
    cells: int


def layout(rows: Sequence[ExperimentRow], cells: int) -> tuple[Placed, ...]:
    """The columns that fit side by side. Those that matter least leave first; texts share what room there is."""
    kept = sorted(COLUMNS, key=lambda column: column.rank)
    while len(kept) > 1 and sum(column.least + GAP for column in kept) - GAP > cells:
        kept.pop()
    wanted = {column.id: _wanted(column, rows) for column in kept}
    while kept[-1].id in (*_FOR_NAMES, *_FOR_USUAL_NAMES):
        most = _MOST["name"] if kept[-1].id in _FOR_NAMES else _USUAL_NAME
        if _widths(kept, wanted, cells)["name"] >= min(wanted["name"], most):
            break
        kept.pop()
    widths = _widths(kept, wanted, cells)
    placed, left = [], 0
    for column in (one for one in COLUMNS if one in kept):
        placed.append(Placed(column, left, widths[column.id]))
        left += widths[column.id] + GAP
    return tuple(placed)


def _widths(kept: Sequence[Column], wanted: Mapping[str, int], cells: int) -> dict[str, int]:
    """The cells of each column that is kept, the one that matters most first."""
    widths = {column.id: min(column.least, cells) for column in kept}
    free = cells - sum(widths.values()) - GAP * (len(kept) - 1)
    name, *others = kept
    usual = [(one, _MOST.get(one.id, cells)) for one in (*others, name)]
    for column, limit in ((name, _USUAL_NAME), *usual, *((one, cells) for one in kept)):
        more = min(free, max(0, min(limit, wanted[column.id]) - widths[column.id]))
        widths[column.id] += more
        free -= more
    return widths


def _wanted(column: Column, rows: Sequence[ExperimentRow]) -> int:
    if column.widest is not None:
        return column.widest
    widest = max((cells_of(column.text(row, 0.0)) for row in rows), default=0)
    return max(column.least, width(column.title), widest)


def header(placed: Sequence[Placed], order: Order) -> Line:
    """The titles; the one that the table is sorted by has an arrow beside it, in the gap."""
    spans: list[Span] = []
    for one in placed:
        chosen = one.column.id == order.by
        arrow = ("▾" if order.down else "▴") if chosen else " "
        title = crop(one.column.title, one.cells)
        blank = " " * (one.cells - width(title))
        style = "accent" if chosen else "label"
        if one.column.right:
            # The arrow's place is the last cell of the gap before, or of the blank.
            lead = f"{blank[:-1]}{arrow}" if blank else ""
            if not blank and spans:
                spans[-1] = Span(spans[-1].text[:-1] + arrow, "accent" if chosen else spans[-1].style)
            spans += [Span(lead + title, style), Span(" " * GAP)]
        else:
            spans += [Span(f"{title}{arrow}{blank}", style), Span(" " * (GAP - 1))]
    return tuple(spans)


def line_of(row: ExperimentRow, placed: Sequence[Placed], cells: int, now: float) -> Line:
    """One experiment. What is wrong with its settings takes the place of its figures."""
    name = placed[0]
    spans = list(fitted(name.column.text(row, now), name.cells))
    if row.problem:
        problem = in_app(row.problem).split("\n")[0].replace(f"{row.root}/", "")
        room = max(0, cells - name.cells - GAP)
        return (*spans, Span(" " * min(GAP, cells - name.cells)), Span(crop(problem, room), "bad"))
    for one in placed[1:]:
        spans += [Span(" " * GAP), *fitted(one.column.text(row, now), one.cells, right=one.column.right)]
    return tuple(spans)


class Lines:
    """Keeps the line of each row: of hundreds only those are made anew that have changed. Ages grow by the minute."""

    def __init__(self) -> None:
        self._version: tuple[object, ...] = ()
        self._kept: dict[Path, tuple[ExperimentRow, Line]] = {}

    def of(self, row: ExperimentRow, placed: tuple[Placed, ...], cells: int, now: float) -> Line:
        """As `line_of`."""
        version = (placed, cells, now // 60)
        if version != self._version:
            self._version, self._kept = version, {}
        kept = self._kept.get(row.root)
        if kept is None or kept[0] is not row:
            kept = self._kept[row.root] = (row, line_of(row, placed, cells, now))
        return kept[1]


def fitted(text: Line, cells: int, *, right: bool = False) -> Line:
    """The text cut or padded to exactly so many cells; of several spans the first is cut, as the last is a mark."""
    over = cells_of(text) - cells
    if over > 0:
        first, rest = text[0], text[1:]
        if width(first.text) > over:
            text = (Span(crop(first.text, width(first.text) - over), first.style), *rest)
        else:
            text = (Span(crop(unstyled(text), cells), first.style),)
    blank = Span(" " * (cells - cells_of(text)))
    return (blank, *text) if right else (*text, blank)


def column_at(placed: Sequence[Placed], x: int) -> str | None:
    """The column whose title, or the gap around it, is at a cell."""
    for one in placed:
        if one.left - GAP // 2 <= x < one.left + one.cells + GAP // 2:
            return one.column.id
    return None
