"""Prepares a run's curves for plotting: thinned, finite, on axes with round numbers."""

import itertools
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from bitnet_core.text import scientific, tick
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.series import Point, Segment, thin

_FROM_ZERO = 0.4
"""A linear axis starts at zero when the lowest value is below this share of the highest."""
Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Drawing:
    """Ready to draw: every number is finite; with `log`, y is already log10."""

    curves: tuple[tuple[str, tuple[Segment, ...]], ...]
    x_limits: Point
    y_limits: Point
    x_ticks: Ticks
    y_ticks: Ticks
    flip_at: float | None
    seams: tuple[float, ...]
    not_finite: tuple[float, ...]
    log: bool


def drawing(view: RunView, shown: tuple[str, ...], columns: int, rows: int, *, log: bool) -> Drawing | None:
    """The curves named in `shown`, at most 2 × `columns` points each; None if there is nothing to draw.

    A logarithmic axis shows positive values only; if there are none, the axis stays linear.
    """
    picked = [(c.name, thin(c.segments, 2 * columns)) for c in view.curves if c.name in shown and c.segments]
    if not picked:
        return None
    log = log and any(y > 0 for _, segments in picked for segment in segments for _, y in segment)
    curves = tuple((name, _logarithms(segments) if log else segments) for name, segments in picked)
    points = [point for _, segments in curves for segment in segments for point in segment]
    x_limits = _widened(min(x for x, _ in points), max(x for x, _ in points))
    low, high = min(y for _, y in points), max(y for _, y in points)
    y_limits = _widened(0.0 if not log and 0 < low < high * _FROM_ZERO else low, high)
    flip_at = view.flip.seen_tokens if view.flip and x_limits[0] <= view.flip.seen_tokens <= x_limits[1] else None
    bad = sorted({x for c in view.curves if c.name in shown for x in c.not_finite})
    return Drawing(
        curves,
        x_limits,
        y_limits,
        ticks(*x_limits, max(2, columns // 16)),
        _log_ticks(*y_limits, max(2, rows // 2)) if log else ticks(*y_limits, max(2, rows // 2)),
        flip_at,
        tuple(x for x in view.seams if x_limits[0] <= x <= x_limits[1]),
        tuple(x for x in bad if x_limits[0] <= x <= x_limits[1]),
        log,
    )


def stripes(segments: Iterable[Segment], x_limits: Point, turns: int, mine: int, of: int) -> tuple[Segment, ...]:
    """The parts of a curve in every `of`-th of `turns` equal stretches of the axis, the first of them number `mine`.

    Curves that lie on each other are drawn in turns, so that each of them can be seen.
    """
    width = (x_limits[1] - x_limits[0]) / turns
    found: list[Segment] = []
    for left in (x_limits[0] + width * turn for turn in range(mine, turns, of)):
        found += (part for segment in segments if (part := _between(segment, left, left + width)))
    return tuple(found)


def _between(segment: Segment, left: float, right: float) -> Segment:
    """The part of a segment with these x, with points added where it enters and leaves."""
    points: list[Point] = []
    for before, point in itertools.pairwise((segment[0], *segment)):
        points += (_at(before, point, x) for x in (left, right) if before[0] < x < point[0])
        if left <= point[0] <= right:
            points.append(point)
    return tuple(points)


def _at(before: Point, after: Point, x: float) -> Point:
    part = (x - before[0]) / (after[0] - before[0])
    return x, before[1] + part * (after[1] - before[1])


def ticks(low: float, high: float, most: int) -> Ticks:
    """Round positions (1, 2 or 5 times a power of ten) inside the limits: at least 1, at most `most` + 1."""
    rough = (high - low) / most
    step = _round_step(max(rough, sys.float_info.min))
    first, last = _multiples(low, high, step)
    while last < first:  # a range shorter than its step may lie between two multiples
        rough /= 2
        step = _round_step(rough)
        first, last = _multiples(low, high, step)
    return tuple((index * step, tick(index * step, step)) for index in range(first, min(last, first + most) + 1))


def _log_ticks(low: float, high: float, most: int) -> Ticks:
    """Positions are log10 of the value, labels the value: powers of ten, with 2 and 5 between them if they fit."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1, 2, 5), (1,)):
        found = [(e, d) for e in exponents for d in digits if low <= e + math.log10(d) <= high]
        if 2 <= len(found) <= most:
            return tuple((e + math.log10(d), tick(d * 10.0**e, 10.0**e)) for e, d in found)
    return tuple((place, scientific(10.0**place, 2)) for place, _ in ticks(low, high, most))


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * (1 - 1e-9))


def _multiples(low: float, high: float, step: float) -> tuple[int, int]:
    """The first and the last multiple of `step` inside the limits; last < first if there is none."""
    return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)


def _logarithms(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    positive = (tuple((x, math.log10(y)) for x, y in segment if y > 0) for segment in segments)
    return tuple(segment for segment in positive if segment)


def _widened(low: float, high: float) -> Point:
    """Limits that differ, so that a single point or a flat line has an axis too."""
    room = abs(high) * 0.05 or 1.0
    return (low, high) if high - low > abs(high) * 1e-9 else (low - room, high + room)
