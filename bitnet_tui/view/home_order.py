"""Which experiments the table shows, and in which order."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitnet_core.text import finite, state_word
from bitnet_tui.view.home_columns import BY_ID, COLUMNS, Column
from bitnet_tui.view.workspace import ExperimentRow


@dataclass(frozen=True)
class Order:
    """What is kept for the next time: the column to sort by, whether it is turned round, and archived ones shown."""

    by: str = "age"
    turned: bool = False
    archived: bool = False

    @property
    def column(self) -> Column:
        return BY_ID[self.by]

    @property
    def down(self) -> bool:
        return self.column.down != self.turned

    def sorted_by(self, column: str) -> "Order":
        """After a click on a column's title: sorted by it or, if it is already, turned round."""
        return replace(self, by=column, turned=not self.turned if column == self.by else False)

    def moved(self, steps: int) -> "Order":
        """Sorted by the column `steps` places further on; after the last one comes the first."""
        ids = [column.id for column in COLUMNS]
        return replace(self, by=ids[(ids.index(self.by) + steps) % len(ids)], turned=False)

    def record(self) -> dict[str, Any]:
        return {"sort": self.by, "turned": self.turned, "archived": self.archived}

    @classmethod
    def of(cls, record: object) -> "Order":
        """From what was kept, which may be anything."""
        found = record if isinstance(record, dict) else {}
        by = found.get("sort")
        known = by if isinstance(by, str) and by in BY_ID else cls.by
        return cls(known, found.get("turned") is True, found.get("archived") is True)


def shown(rows: Iterable[ExperimentRow], order: Order, wanted: str) -> tuple[ExperimentRow, ...]:
    """The rows that have every word of `wanted`, sorted; those without a value come last, either way."""
    terms = set(wanted.casefold().split())
    left = [row for row in rows if (order.archived or not row.hidden) and _has(row, terms)]
    known = [(key, row) for row in left if (key := _comparable(order.column.key(row))) is not None]
    known.sort(key=lambda pair: pair[0], reverse=order.down)
    return (*(row for _, row in known), *(row for row in left if _comparable(order.column.key(row)) is None))


def in_places(rows: Sequence[ExperimentRow], places: Sequence[Path]) -> tuple[ExperimentRow, ...]:
    """The rows where they are already, in the order of `places`; new ones come last."""
    known = {root: place for place, root in enumerate(places)}
    return tuple(sorted(rows, key=lambda row: known.get(row.root, len(known))))


def _comparable(key: Any) -> Any:
    """A key that sorts with others of its column; None for a number that is not finite."""
    return finite(key) if isinstance(key, float) else key


def _has(row: ExperimentRow, terms: Set[str]) -> bool:
    if not terms:
        return True
    text = searched(row)
    return all(term in text for term in terms)


def searched(row: ExperimentRow) -> str:
    """What a filter looks at: name, teacher, student, target, and the state of each stage, in words."""
    states = {state_word(stage.state) for stage in row.stages if stage.state != "new"}
    states |= {"archived"} if row.archived else set()
    states |= {"problem"} if row.problem or row.unreadable else set()
    words = (row.name, row.teacher, row.student, row.stored.backend, *sorted(states))
    return "\n".join(words).casefold()
