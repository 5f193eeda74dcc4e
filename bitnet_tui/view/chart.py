"""Prepares a run's curves for drawing: thinned, finite, with the scales on which they and their marks stand."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from bitnet_core.results.axes import Label, Ticks, heights, widened
from bitnet_core.results.series import Point, Segment, thin
from bitnet_core.text import tick
from bitnet_tui.view.lens import Axis, extent
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.scale import Scale, along, powers, upwards

BELOW = 2
"""Rows below the curves: the axis, and its numbers."""
_TOKENS = Axis("tokens")


@dataclass(frozen=True)
class Drawing:
    """Ready to draw: every number is finite and stands on the scales; with `log`, y is already log10."""

    curves: tuple[tuple[str, tuple[Segment, ...]], ...]
    x: Scale
    y: Scale
    x_ticks: Ticks
    y_ticks: Ticks
    flips: tuple[float, ...]
    seams: tuple[float, ...]
    not_finite: tuple[float, ...]
    log: bool
    left: int
    """Columns left of the curves: the numbers, and the axis."""
    flip_names: tuple[str, ...] = ()
    """The letters of the curves whose flips these are; empty, or one for each flip."""


def drawing(
    view: RunView,
    shown: tuple[str, ...],
    columns: int,
    rows: int,
    *,
    log: bool,
    label: Label = tick,
    axis: Axis = _TOKENS,
    window: Point | None = None,
    smooth: float = 0.0,
) -> Drawing | None:
    """The curves named in `shown`, at most 2 × `columns` points each; None if there is nothing to draw.

    A logarithmic axis shows positive values only; if there are none, the axis stays linear. `window` is the stretch
    of seen tokens to draw, None for all that these curves have. `smooth` is how far back a point looks, as a share of
    the whole run: so what is zoomed in is the same curve. `label` writes the numbers of a linear axis.
    """
    left, right = extent(view) or (0.0, 0.0)
    back = smooth * (right - left)
    cut = [(c.name, _within(smoothed(c.segments, back), window)) for c in view.curves if c.name in shown]
    picked = [(name, thin(segments, 2 * columns, window)) for name, segments in cut if segments]
    if not picked:
        return None
    log = log and any(y > 0 for _, segments in picked for segment in segments for _, y in segment)
    curves = tuple((name, _placed(_logarithms(segments) if log else segments, axis)) for name, segments in picked)
    points = [point for _, segments in curves for segment in segments for point in segment]
    low, high = min(y for _, y in points), max(y for _, y in points)
    y, y_ticks = (
        powers(*widened(low, high), rows - BELOW) if log else upwards(*heights(low, high), rows - BELOW, label)
    )
    before = max(len(label) for _, label in y_ticks) + 1
    ends = [axis.place(x) for x in window] if window else [min(x for x, _ in points), max(x for x, _ in points)]
    first, last = widened(*ends)
    x, x_ticks = along(first, last, max(2, columns - before), time=axis.by == "time")
    bad = sorted({x for c in view.curves if c.name in shown for x in c.not_finite})

    def on_axis(seen: Iterable[float]) -> tuple[float, ...]:
        return tuple(place for place in map(axis.place, seen) if first <= place <= last)

    marks = on_axis(view.flips), on_axis(view.seams), on_axis(bad)
    named = zip(view.flips, view.flip_names, strict=False)
    names = tuple(letters for seen, letters in named if on_axis([seen]))
    return Drawing(curves, x, y, x_ticks, y_ticks, *marks, log, before, names)


def smoothed(segments: tuple[Segment, ...], back: float) -> tuple[Segment, ...]:
    """Each point moved to the mean of those up to it, which weigh 1/e for every `back` that they lie behind it.

    A gap stays a gap.
    """
    if not back > 0:
        return segments
    found: list[Segment] = []
    before, total, weight = -math.inf, 0.0, 0.0
    for segment in segments:
        points: list[Point] = []
        for x, y in segment:
            fades = math.exp((before - x) / back) if x > before else 1.0
            before, total, weight = max(x, before), fades * total + y, fades * weight + 1.0
            points.append((x, total / weight))
        found.append(tuple(points))
    return tuple(found)


def _within(segments: tuple[Segment, ...], window: Point | None) -> tuple[Segment, ...]:
    if window is None:
        return segments
    return tuple(part for segment in segments if (part := _between(segment, *window)))


def _placed(segments: tuple[Segment, ...], axis: Axis) -> tuple[Segment, ...]:
    if axis.by == "tokens":
        return segments
    return tuple(tuple((axis.place(x), y) for x, y in segment) for segment in segments)


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


def _logarithms(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    positive = (tuple((x, math.log10(y)) for x, y in segment if y > 0) for segment in segments)
    return tuple(segment for segment in positive if segment)
