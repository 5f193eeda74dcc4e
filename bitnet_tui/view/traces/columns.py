"""The columns of the list of traces, and which of them it is sorted by."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bitnet_core.text import pad
from bitnet_tui.view.spans import Line, cut
from bitnet_tui.view.titles import GAP, Placed, header
from bitnet_tui.view.traces.found import next_in

_WIDE = 56
_LEAST_PROMPT = 4


@dataclass(frozen=True)
class Column:
    """`cells` is 0 for what takes the rest; `down`: the greatest comes first."""

    id: str
    title: str
    cells: int
    right: bool = False
    down: bool = False


COLUMNS = (
    Column("number", "N", 5, right=True),
    Column("prompt", "prompt", 0),
    Column("tokens", "tok", 5, right=True, down=True),
    Column("ended", "ended", 8),
    Column("other", "Other", 5, right=True, down=True),
    Column("kl", "KL", 5, right=True, down=True),
)
_BY_ID = {column.id: column for column in COLUMNS}
_WORDS = {
    "number": ("number", "number"),
    "kl": ("KL", "KL"),
    "other": ("Other's mass", "Other"),
    "tokens": ("tokens", "tokens"),
    "ended": ("how it ended", "end"),
}
"""What the list is sorted by; second, where there is little room."""


@dataclass(frozen=True)
class Order:
    """As long as no trace was scored, the order of their KL is that of their numbers."""

    by: str = "kl"
    turned: bool = False

    @property
    def down(self) -> bool:
        return _BY_ID[self.by].down != self.turned

    @property
    def words(self) -> tuple[str, str]:
        return _WORDS.get(self.by, (self.by, self.by))

    @property
    def fields(self) -> dict[str, Any]:
        """What asks for it."""
        return {"by": self.by, "turned": self.turned}

    def of(self, *, scored: bool) -> "Order":
        """The order to use: without scores there is none by KL, so it is by number."""
        return self if scored or self.by != "kl" else Order("number")

    def sorted_by(self, column: str) -> "Order":
        """After a click on a column's title: sorted by it or, if it is already, turned round."""
        return replace(self, turned=not self.turned) if column == self.by else Order(column)

    def next(self, *, scored: bool) -> "Order":
        """The next of those that a key goes through."""
        orders = ["kl", "other", "number"] if scored else ["number", "other"]
        return Order(next_in(orders, self.of(scored=scored).by) or "kl")


def layout(cells: int, *, scored: bool) -> tuple[Placed[Column], ...]:
    """Narrow lists leave out how a trace ended, and then Other."""
    gone = {"kl"} if not scored else set()
    gone |= {"ended"} if cells < _WIDE else set()
    gone |= {"other"} if cells < _WIDE - _BY_ID["ended"].cells - GAP else set()
    kept = [column for column in COLUMNS if column.id not in gone]
    rest = max(_LEAST_PROMPT, cells - sum(one.cells for one in kept) - GAP * (len(kept) - 1))
    placed, left = [], 0
    for one in kept:
        placed.append(Placed(one, left, one.cells or rest))
        left += placed[-1].cells + GAP
    return tuple(placed)


def heading(cells: int, order: Order, *, scored: bool) -> Line:
    """The titles, without the gap behind the last."""
    return cut(header(layout(cells, scored=scored), order)[:-1], cells)


def in_columns(texts: Mapping[str, str], cells: int, *, scored: bool) -> str:
    """A line of exactly `cells`."""
    placed = layout(cells, scored=scored)
    parts = (pad(texts[one.column.id], one.cells, right=one.column.right) for one in placed)
    return pad((" " * GAP).join(parts), cells)
