"""Round numbers for an axis."""

import math
import sys
from collections.abc import Callable, Mapping

from bitnet_core.results.curves import SHARES
from bitnet_core.text import rate_tick, share_tick, tick

Ticks = tuple[tuple[float, str], ...]
Label = Callable[[float, float], str]
"""Writes a value on an axis; the second number is the distance between two labels."""
LABELS: Mapping[str, Label] = {**dict.fromkeys(SHARES, share_tick), "lr": rate_tick}
"""What writes the labels of a figure that `tick` does not write."""
_FROM_ZERO = 0.2
_LEAST_SPAN = 1e-290
"""A shorter axis could not be divided into steps."""


def ticks(low: float, high: float, most: int, label: Label = tick) -> Ticks:
    """Round positions (1, 2 or 5 times a power of ten) inside the limits: at least 1, at most `most` + 1."""
    rough = (high - low) / most
    step = round_step(max(rough, sys.float_info.min))
    first, last = multiples(low, high, step)
    while last < first:  # a range shorter than its step may lie between two multiples
        rough /= 2
        step = round_step(rough)
        first, last = multiples(low, high, step)
    return tuple((index * step, label(index * step, step)) for index in range(first, min(last, first + most) + 1))


def round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))


def multiples(low: float, high: float, step: float) -> tuple[int, int]:
    """The first and the last multiple of `step` inside the limits; last < first if there is none."""
    return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)


def heights(low: float, high: float) -> tuple[float, float]:
    """The limits of a linear axis: from zero if the lowest value is below a share of the highest."""
    return widened(0.0 if 0 < low < high * _FROM_ZERO else low, high)


def widened(low: float, high: float) -> tuple[float, float]:
    """Limits that differ, so that a single point or a flat line has an axis too: below zero only if that is."""
    if high - low > max(_LEAST_SPAN, abs(high) * 1e-9):
        return low, high
    room = abs(high) * 0.05 if abs(high) * 0.05 > _LEAST_SPAN else 1.0
    return low - room if low < 0 else max(0.0, low - room), high + room
