"""Where a value stands on a chart, and round numbers that are the same number of cells apart.

Numbers of the axes, curves, marks and the crosshair all ask a `Scale`, so they agree. It knows no curves.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bitnet_core.results.axes import Label, Ticks, multiples, round_step, ticks
from bitnet_core.results.series import Point
from bitnet_core.text import duration, tick

DOTS_ACROSS, DOTS_UP = 2, 4
"""Of a cell of braille."""
_ROWS_APART, _COLUMNS_APART, _COLUMNS_A_NUMBER = 2, 10, 16
"""Cells from one number to the next: at least, and as wanted along the chart."""
_ROWS_A_NUMBER = 3
_SHARES = (0.25, 0.5, 1, 2)
"""Steps that are tried, as multiples of the wanted one."""
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800)
_DAY = 86400
_DECADES = (1, 2, 3, 5, 10, 20, 50, 100)
_DOUBLINGS = tuple(many * math.log10(2) for many in (1, 2, 3))
_WIDEST_POWER = len("0.125")
_LEAST_DECADE = -300
_NEARLY = 1e-9


@dataclass(frozen=True)
class Scale:
    """`low` stands in the middle of the first cell, `high` in the middle of the last; each cell has `dots` dots."""

    low: float
    high: float
    cells: int
    dots: int

    def dot(self, value: float) -> int:
        """The dot that shows the value, counted from `low` on; the outermost for a value that is outside."""
        place = (value - self.low) / (self.high - self.low) * (self.cells - 1) + 0.5
        return min(self.cells * self.dots - 1, max(0, math.floor(place * self.dots)))

    def cell(self, value: float) -> int:
        return self.dot(value) // self.dots

    def value(self, cell: int) -> float:
        """What stands in the middle of a cell."""
        return self.low + (self.high - self.low) * cell / (self.cells - 1)


def upwards(low: float, high: float, rows: int, label: Label = tick) -> tuple[Scale, Ticks]:
    """A linear scale over these rows, a little longer than asked, so that its numbers are in the middle of theirs."""
    rough = (high - low) / max(2, rows // _ROWS_A_NUMBER)
    even = _even(low, high, rows, _round_steps(rough), label, lambda _: _ROWS_APART)
    limits, numbers = even or _two(low, high, rows, ticks(low, high, max(2, rows // _ROWS_APART), label))
    if limits[0] < 0 < low:
        return upwards(0.0, high, rows, label)
    return Scale(*limits, rows, DOTS_UP), numbers


def powers(low: float, high: float, rows: int) -> tuple[Scale, Ticks]:
    """As `upwards` for logarithms to the base of ten: powers of ten, else of two, which are evenly apart as well.

    Three of either or more; in a low chart also two, if both are on the stretch. Other stretches are too short for
    both, or have longer powers of two: those have round numbers, which are not evenly apart.
    """
    kinds = (_DECADES, _power_of_ten), (_DOUBLINGS, _power_of_two)
    found = [_even(low, high, rows, steps, label, lambda _: _ROWS_APART) for steps, label in kinds]
    even = [one for one in found if one is not None and all(written for _, written in one[1])]
    chosen = next((one for one in even if len(one[1]) > 2), None)
    if chosen is None and rows < 3 * _ROWS_A_NUMBER:
        chosen = next((one for one in even if low <= one[1][0][0] and one[1][-1][0] <= high), None)
    if chosen is not None:
        return Scale(*chosen[0], rows, DOTS_UP), chosen[1]
    return Scale(low, high, rows, DOTS_UP), _log_ticks(low, high, max(2, rows // _ROWS_APART))


def _power_of_ten(place: float, _step: float) -> str:
    """Empty for one that a float may not hold."""
    return tick(10.0**place, 10.0**place) if place > _LEAST_DECADE else ""


def _power_of_two(place: float, _step: float) -> str:
    """Exact; empty for one that takes too much room."""
    written = f"{2.0 ** round(place / _DOUBLINGS[0]):g}"
    return written if len(written) <= _WIDEST_POWER and place > _LEAST_DECADE else ""


def along(low: float, high: float, columns: int, *, time: bool) -> tuple[Scale, Ticks]:
    """As `upwards`, to the right; of seconds if it is of `time`."""
    most = max(2, columns // _COLUMNS_A_NUMBER)
    steps, label = (_time_steps, _time_label) if time else (_round_steps, tick)
    even = _even(
        low, high, columns, steps((high - low) / most), label, lambda widest: max(_COLUMNS_APART, widest + 2)
    )
    if even is None:
        some = ticks(low, high, most)
        even = _two(low, high, columns, tuple((x, duration(x)) for x, _ in some) if time else some)
    return Scale(*even[0], columns, DOTS_ACROSS), even[1]


def _round_steps(rough: float) -> set[float]:
    return {round_step(rough * share) for share in _SHARES}


def _time_steps(rough: float) -> set[float]:
    """Whole seconds, minutes or hours, or round numbers of days."""
    if rough > _TIME_STEPS[-1]:
        return {_DAY * step for step in _round_steps(rough / _DAY)}
    return {step for step in _TIME_STEPS if rough * _SHARES[0] <= step <= rough * _SHARES[-1]}


def _even(
    low: float,
    high: float,
    cells: int,
    steps: Iterable[float],
    label: Label,
    least: Callable[[int], int],
) -> tuple[Point, Ticks] | None:
    """Limits and the numbers between them; None if no step fits.

    `least` says how many cells numbers are apart at least, by the width of the widest. Three numbers or more are
    wanted, then limits that leave little empty.
    """
    found: list[tuple[bool, float, float, Point, Ticks]] = []
    for step in steps:
        first, last = multiples(low, high, step)
        widest = max(len(label(place * step, step)) for place in (first, last))
        limits = _fitted(low, high, cells, first * step, step, least(widest))
        if limits is None:
            continue
        first, last = multiples(*limits, step)
        if last > first:
            numbers = tuple((place * step, label(place * step, step)) for place in range(first, last + 1))
            found.append((last - first < 2, limits[1] - limits[0], step, limits, numbers))
    return min(found)[3:] if found else None


def _two(low: float, high: float, cells: int, some: Ticks) -> tuple[Point, Ticks]:
    """The outermost of these numbers, where no more are evenly apart."""
    numbers = tuple(dict.fromkeys((some[0], some[-1])))
    step = numbers[-1][0] - numbers[0][0] or high - low
    return _fitted(low, high, cells, numbers[0][0], step, 1) or (low, high), numbers


def _fitted(low: float, high: float, cells: int, number: float, step: float, least: int) -> Point | None:
    """The closest limits around these for which each step from `number` is in the middle of a cell.

    None if steps are fewer than `least` cells apart.
    """
    for apart in range(math.floor(step * (cells - 1) / (high - low) + _NEARLY), least - 1, -1):
        cell = step / apart
        below, above = (math.ceil(length / cell - _NEARLY) for length in (number - low, high - number))
        if below + above < cells:
            bottom = number - below * cell
            return min(low, bottom), max(high, bottom + (cells - 1) * cell)  # rounded, they may leave out an end
    return None


def _log_ticks(low: float, high: float, most: int) -> Ticks:
    """Positions are log10 of the value, labels the value: powers of ten, with 2 and 5 between them if they fit."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    found: list[tuple[int, int]] = []
    for digits in ((1,), (1, 2, 5)):
        more = [(e, d) for e in exponents for d in digits if low <= e + math.log10(d) <= high]
        found = more if len(more) <= most or len(found) < 2 else found
    if len(found) < 2:  # a short stretch has round numbers of its own
        return tuple((math.log10(y), label) for y, label in ticks(10.0**low, 10.0**high, most) if y > 0)
    return tuple((e + math.log10(d), tick(d * 10.0**e, 10.0**e)) for e, d in found[:: -(-len(found) // most)])


def _time_label(seconds: float, _step: float) -> str:
    """`45s`, `20m`, `1h30`, `2d`: as short as it is exact."""
    minutes, rest = divmod(round(seconds), 60)
    if not seconds:
        return "0"
    if rest:
        return f"{minutes}m{rest:02d}" if minutes else f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    if minutes:
        return f"{hours}h{minutes:02d}" if hours else f"{minutes}m"
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"
