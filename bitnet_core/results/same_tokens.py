"""How trainings stand after the same number of tokens: as measured there, or between two measurements."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from bitnet_core.text import significant

SAME_TOKENS = 0.02
"""Numbers of tokens that differ by a smaller share count as equal."""

_Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Standing:
    """The value of one training after `tokens`, and the bounds between which it is, which are one if it is measured.

    Between measurements the value is interpolated; from the start, where it falls steeply, only the bounds are told.
    """

    tokens: float
    value: float
    bounds: tuple[float, float]
    from_start: bool = False

    @property
    def measured(self) -> bool:
        return self.bounds == (self.value, self.value)

    @property
    def words(self) -> str:
        if self.measured:
            return significant(self.value, 4)
        if self.from_start:
            return f"between {' and '.join(significant(bound, 3) for bound in self.bounds)}"
        return f"about {significant(self.value, 3)}"

    def below(self, other: "Standing") -> bool:
        """Whether it is surely lower, and shown as such."""
        return self.bounds[1] < other.bounds[0] and self.words != other.words


def standings(curves: Sequence[_Points]) -> tuple[float, list[Standing]]:
    """The tokens after which the first of the curves was measured last, and how each stands there.

    Empty if one of them was measured only after that, or not at all. A curve's points are in the order of their
    tokens; of several at the same place the last counts.
    """
    x = min((curve[-1][0] if curve else 0.0 for curve in curves), default=0.0)
    found = [_standing(curve, x) for curve in curves] if x > 0 else []
    known = [one for one in found if one is not None]
    return (x, known) if known and len(known) == len(found) else (0.0, [])


def _standing(curve: _Points, x: float) -> Standing | None:
    place = bisect_right(curve, x, key=itemgetter(0))
    tokens, value = min(curve[max(0, place - 1) : place + 1], key=lambda point: abs(point[0] - x))
    if abs(tokens - x) <= SAME_TOKENS * max(tokens, x):
        return Standing(tokens, value, (value, value))
    if not 0 < place < len(curve):
        return None
    (first, before), (last, after) = curve[place - 1], curve[place]
    value = before + (after - before) * (x - first) / (last - first)
    return Standing(x, value, (min(before, after), max(before, after)), from_start=first <= 0)
