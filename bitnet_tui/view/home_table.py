"""The table of experiments as lines: which columns fit, and how wide each is."""

from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from bitnet_core.text import crop, width
from bitnet_tui.remedies import in_app
from bitnet_tui.view.home_columns import COLUMNS, Column
from bitnet_tui.view.spans import Line, Span, cells_of, unstyled
from bitnet_tui.view.titles import GAP, Placed
from bitnet_tui.view.workspace import ExperimentRow

_USUAL_NAME = 20
"""How much of the names is shown before the other texts get what they need."""
_FOR_TEXTS = "size"
"""Left out where any text would be cut, as is a column of texts that has none."""
_FOR_NAMES = "student"
"""Left out where names would be cut, or its own texts."""
_FOR_USUAL_NAMES = ("teacher", "stored", "bits")
"""Left out where names of a usual length would be cut."""
_MOST = {"name": 40, "student": 24, "teacher": 28, "stored": 16}
"""How much of each text is shown before any of them gets more."""


def layout(rows: Sequence[ExperimentRow], cells: int) -> tuple[Placed[Column], ...]:
    """The columns that fit side by side. Those that matter least leave first; texts share what room there is."""
    kept = sorted(COLUMNS, key=lambda column: column.rank)
    while len(kept) > 1 and sum(column.least + GAP for column in kept) - GAP > cells:
        kept.pop()
    wanted = {column.id: _wanted(column, rows) for column in kept}
    idle = {column.id for column in kept if column.widest is None and _is_idle(column, rows)}
    kept.sort(key=lambda column: (column.id in idle, column.rank))
    while _is_left_out(kept[-1].id, _widths(kept, wanted, cells), wanted, idle):
        kept.pop()
    widths = _widths(kept, wanted, cells)
    placed, left = [], 0
    for column in (one for one in COLUMNS if one in kept):
        placed.append(Placed(column, left, widths[column.id]))
        left += widths[column.id] + GAP
    return tuple(placed)


def _is_left_out(last: str, widths: Mapping[str, int], wanted: Mapping[str, int], idle: Set[str]) -> bool:
    """Whether the column that matters least makes room for texts that would be cut beside it."""
    if last not in (_FOR_TEXTS, _FOR_NAMES, *_FOR_USUAL_NAMES):
        return False
    cut = {name for name, most in _MOST.items() if name in widths and widths[name] < min(wanted[name], most)}
    if last == _FOR_TEXTS or last in idle:
        return bool(cut)
    if last == _FOR_NAMES:
        return "name" in cut or last in cut
    return widths["name"] < min(wanted["name"], _USUAL_NAME)


def _widths(kept: Sequence[Column], wanted: Mapping[str, int], cells: int) -> dict[str, int]:
    """The cells of each column that is kept, the one that matters most first."""
    widths = {column.id: min(column.least, cells) for column in kept}
    free = cells - sum(widths.values()) - GAP * (len(kept) - 1)
    name, *others = kept
    texts = [one.id for one in others if one.id in _MOST]
    most = {one: min(wanted[one], _MOST[one]) for one in texts}
    usual = [(one.id, wanted[one.id]) for one in others if one.id not in _MOST]
    for column, limit in ((name.id, min(wanted[name.id], _USUAL_NAME)), *usual):
        free -= _widen(widths, column, limit, free)
    while free and (narrow := [one for one in texts if widths[one] < most[one]]):  # to the narrowest one first
        free -= _widen(widths, min(narrow, key=widths.__getitem__), cells, 1)
    for column, limit in ((name.id, _MOST["name"]), *((one.id, cells) for one in kept)):
        free -= _widen(widths, column, min(limit, wanted[column]), free)
    return widths


def _widen(widths: dict[str, int], column: str, limit: int, free: int) -> int:
    """Widen a column up to a limit, as far as there is room. Returns by how much."""
    more = min(free, max(0, limit - widths[column]))
    widths[column] += more
    return more


def _is_idle(column: Column, rows: Sequence[ExperimentRow]) -> bool:
    """Whether no row has anything in it."""
    return not any(column.key(row) for row in rows)


def _wanted(column: Column, rows: Sequence[ExperimentRow]) -> int:
    if column.widest is not None:
        return column.widest
    widest = max((cells_of(column.text(row, 0.0)) for row in rows), default=0)
    return max(column.least, width(column.title), widest)


def line_of(row: ExperimentRow, placed: Sequence[Placed[Column]], cells: int, now: float) -> Line:
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
    """Keeps the line of each row: of hundreds, only changed ones are made again. Ages grow by the minute."""

    def __init__(self) -> None:
        self._version: tuple[object, ...] = ()
        self._kept: dict[Path, tuple[ExperimentRow, Line]] = {}

    def of(self, row: ExperimentRow, placed: tuple[Placed[Column], ...], cells: int, now: float) -> Line:
        """As `line_of`."""
        version = (placed, cells, now // 60)
        if version != self._version:
            self._version, self._kept = version, {}
        kept = self._kept.get(row.root)
        if kept is None or kept[0] is not row:
            kept = self._kept[row.root] = (row, line_of(row, placed, cells, now))
        return kept[1]


def fitted(text: Line, cells: int, *, right: bool = False) -> Line:
    """The text cut or padded to exactly `cells` cells; of several spans the first is cut, as the last is a mark."""
    over = cells_of(text) - cells
    if over > 0:
        first, rest = text[0], text[1:]
        if width(first.text) > over:
            text = (Span(crop(first.text, width(first.text) - over), first.style), *rest)
        else:
            text = (Span(crop(unstyled(text), cells), first.style),)
    blank = Span(" " * (cells - cells_of(text)))
    return (blank, *text) if right else (*text, blank)
