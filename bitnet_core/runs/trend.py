"""Where the held-out loss of a training goes, and whether it has recovered from the flip. Pure, on its vitals."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bitnet_core.runs.vitals import Evaluation, Vitals, is_since_flip
from bitnet_core.text import significant

TREND = 6
"""The slope of the held-out loss is that of a line through this many evaluations."""
RISES = 3
"""So many evaluations in a row, each above the one before, are a trend and not a fluctuation."""
RISEN = 0.005
"""A smaller rise, as a share of the loss, is none."""
_LEAST_PACE = 0.0095
LEVEL_SHARE = 0.02
"""A held-out loss that changes by less than this share an hour is level."""


@dataclass(frozen=True)
class Trend:
    """The evaluations under the settings that a training has now, and where they go; None if that is not known."""

    evaluations: tuple[Evaluation, ...]
    direction: Literal["falls", "level", "rises"] | None = None
    pace: str = ""
    """`0.3 a minute`, of a loss that falls or rises."""

    @property
    def words(self) -> str:
        """`falls 0.3 a minute`, `level`, or empty."""
        return " ".join(filter(None, (self.direction, self.pace)))


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of the least-squares line through the points; None if all have the same x."""
    if len({x for x, _ in points}) < 2:  # by themselves: a rounded mean would leave them a spread
        return None
    middle_x, middle_y = (statistics.fmean(values) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


def comparable(vitals: Vitals) -> tuple[Evaluation, ...]:
    """The evaluations whose losses tell a trend: those since the flip, which raises the loss, or all before it."""
    if vitals.flip_at is None:
        return vitals.evaluations
    return tuple(one for one in vitals.evaluations if is_since_flip(one, vitals.flip_at))


def rises(losses: Sequence[float]) -> int:
    """How many times in a row, up to the last one, a loss was above the one before; 0 for a negligible rise."""
    pairs = itertools.pairwise(reversed(losses))
    found = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] > pair[1], pairs))
    return found if found and losses[-1] > losses[-1 - found] * (1 + RISEN) else 0


def unsettled(vitals: Vitals) -> bool:
    """Whether it has flipped, and the held-out loss has not been back where it was before."""
    before, lowest = vitals.before_flip, vitals.best_since_flip
    return before is not None and (lowest is None or lowest.loss > before.loss * (1 + RISEN))


def trend(vitals: Vitals) -> Trend:
    """Where the held-out loss goes."""
    found = comparable(vitals)
    if vitals.changed_at is not None:
        found = tuple(one for one in found if one.seen >= vitals.changed_at) or found[-1:]
    change = slope([(one.t, one.loss) for one in found[-TREND:]])
    if change is None or len(found) < 2:
        return Trend(found)
    last = found[-1].loss
    fluctuates = change > 0 and last <= min(one.loss for one in found[-TREND:]) * (1 + RISEN)
    if fluctuates or abs(change) * 3600 <= LEVEL_SHARE * abs(last):
        return Trend(found, "level")
    return Trend(found, "falls" if change < 0 else "rises", _pace(abs(change)))


def _pace(per_second: float) -> str:
    """`0.02 a minute`, `0.3 an hour`: in the shortest time in which it is at least 0.01."""
    units = ((60, "a minute"), (3600, "an hour"), (86400, "a day"))
    seconds, name = next((unit for unit in units if per_second * unit[0] >= _LEAST_PACE), units[-1])
    value = per_second * seconds
    return f"{significant(value, 1 if value < 1 else 2)} {name}"
