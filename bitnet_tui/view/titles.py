"""The line of titles above a list: which column is where, which one the list is sorted by, and which was clicked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bitnet_core.text import crop, width
from bitnet_tui.view.spans import Line, Span

GAP = 2


class Titled(Protocol):
    """A column; one of figures stands at the `right`."""

    @property
    def id(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def right(self) -> bool: ...


class Sorted(Protocol):
    """The column that a list is sorted by, and whether the greatest comes first."""

    @property
    def by(self) -> str: ...
    @property
    def down(self) -> bool: ...


_Column = TypeVar("_Column", bound=Titled)


@dataclass(frozen=True)
class Placed(Generic[_Column]):
    """A column and its first cell."""

    column: _Column
    left: int
    cells: int


def header(placed: Sequence[Placed[_Column]], order: Sorted) -> Line:
    """The titles; the one that the list is sorted by has an arrow beside it, in the gap."""
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


def column_at(placed: Sequence[Placed[_Column]], x: int) -> str | None:
    """The column whose title, or the gap around it, is at a cell."""
    for one in placed:
        if one.left - GAP // 2 <= x < one.left + one.cells + GAP // 2:
            return one.column.id
    return None
