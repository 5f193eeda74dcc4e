"""Prepares a run's curves for plotting: thinned, finite, on axes with round numbers."""

import bisect
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from bitnet_core.results.axes import Ticks, heights, multiples, round_step, ticks, widened
from bitnet_core.results.series import Point, Segment, thin
from bitnet_core.text import duration, tick
from bitnet_tui.view.lens import Axis, extent
from bitnet_tui.view.run_fold import RunView

_AXIS_ROWS = 2
"""Below the drawing: the axis, and its numbers."""
_LEAST_APART = 2
"""Rows from one number of the other axis to the next."""
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800)
_TOKENS = Axis("tokens")
PlotColour = tuple[int, int, int] | int | str
"""A colour of a chart: red, green and blue; a number of the terminal's palette; or `default`."""


@dataclass(frozen=True)
class Drawing:
    """Ready to draw: every number is finite; with `log`, y is already log10."""

    curves: tuple[tuple[str, tuple[Segment, ...]], ...]
    x_limits: Point
    y_limits: Point
    x_ticks: Ticks
    y_ticks: Ticks
    flips: tuple[float, ...]
    seams: tuple[float, ...]
    not_finite: tuple[float, ...]
    log: bool


def drawing(
    view: RunView,
    shown: tuple[str, ...],
    columns: int,
    rows: int,
    *,
    log: bool,
    axis: Axis = _TOKENS,
    window: Point | None = None,
    smooth: float = 0.0,
) -> Drawing | None:
    """The curves named in `shown`, at most 2 × `columns` points each; None if there is nothing to draw.

    A logarithmic axis shows positive values only; if there are none, the axis stays linear. `window` is the stretch
    of seen tokens to draw, None for all that these curves have. `smooth` is how far back a point looks, as a share of
    the whole run: so what is zoomed in is the same curve.
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
    ends = [axis.place(x) for x in window] if window else [min(x for x, _ in points), max(x for x, _ in points)]
    x_limits = widened(*ends)
    low, high = min(y for _, y in points), max(y for _, y in points)
    if log:
        y_limits = widened(low, high)
        y_ticks = _log_ticks(*y_limits, max(2, rows // 2))
        y_limits = _for_powers(*y_limits, y_ticks, rows)
    else:
        y_limits, y_ticks = _even(*heights(low, high), rows)
    bad = sorted({x for c in view.curves if c.name in shown for x in c.not_finite})
    most_x = max(2, columns // 16)

    def on_axis(seen: Iterable[float]) -> tuple[float, ...]:
        return tuple(x for x in map(axis.place, seen) if x_limits[0] <= x <= x_limits[1])

    return Drawing(
        curves,
        x_limits,
        y_limits,
        time_ticks(*x_limits, most_x) if axis.by == "time" else ticks(*x_limits, most_x),
        y_ticks,
        on_axis(view.flips),
        on_axis(view.seams),
        on_axis(bad),
        log,
    )


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


def stripes(segments: Iterable[Segment], x_limits: Point, turns: int, mine: int, of: int) -> tuple[Segment, ...]:
    """The parts of a curve in every `of`-th of `turns` equal stretches of the axis, the first of them number `mine`.

    Curves that lie on each other are drawn in turns, so that each of them can be seen.
    """
    whole = x_limits[1] - x_limits[0]
    edges = [*(x_limits[0] + whole * turn / turns for turn in range(turns)), x_limits[1]]  # the last point is within
    found: list[Segment] = []
    for turn in range(mine, turns, of):
        found += (part for segment in segments if (part := _between(segment, edges[turn], edges[turn + 1])))
    return tuple(found)


def lettered(segments: Iterable[Segment], x_limits: Point, many: int, offset: float) -> list[Point]:
    """The places of a curve at each of `many` x along the axis; `offset` moves these by a share of their distance.

    So the letters of curves that lie on each other stand beside each other. A curve that is nowhere at these x has
    its letter at its last point.
    """
    kept = [segment for segment in segments if segment]
    apart = (x_limits[1] - x_limits[0]) / many
    places = [x_limits[0] + apart * (place + offset) for place in range(many)]
    found = [_at_x(segment, x) for segment in kept for x in places if segment[0][0] <= x <= segment[-1][0]]
    return found or [segment[-1] for segment in kept[-1:]]


def _at_x(segment: Segment, x: float) -> Point:
    """The segment at an x that it has."""
    right = bisect.bisect_left(segment, (x,))
    if right == 0 or right == len(segment):
        return segment[min(right, len(segment) - 1)]
    before, after = segment[right - 1 : right + 1]
    return after if after[0] == before[0] else _at(before, after, x)


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


def time_ticks(low: float, high: float, most: int) -> Ticks:
    """As `ticks`, for seconds: at whole minutes, hours or days where the axis is that long."""
    step = next((one for one in _TIME_STEPS if (high - low) / one <= most), None)
    if step is None:
        return tuple((place, duration(place)) for place, _ in ticks(low, high, most))
    first, last = multiples(low, high, step)
    return tuple((index * step, _time_label(index * step)) for index in range(first, last + 1))


def _time_label(seconds: float) -> str:
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


def _even(low: float, high: float, rows: int) -> tuple[Point, Ticks]:
    """Round heights that are all the same number of rows apart, and the limits, raised a little, that make them so.

    Three heights or more are wanted, then limits that leave little empty.
    """
    span = high - low
    rough = span / max(2, rows // 3)
    found: list[tuple[bool, float, float, int, int]] = []
    for step in {round_step(rough * share) for share in (0.25, 0.5, 1, 2)}:
        raised = _raised(span, step, rows)
        if raised is None:
            continue
        first, last = multiples(low, low + raised, step)
        if last > first:
            found.append((last - first < 2, raised, step, first, last))
    if not found:  # no three heights are that far apart; two always are evenly
        some = ticks(low, high, max(2, rows // 2))
        return (low, high), tuple(dict.fromkeys((some[0], some[-1])))
    _, raised, step, first, last = min(found)
    # A rounded limit would leave the highest point outside.
    return (low, max(high, low + raised)), tuple(
        (place * step, tick(place * step, step)) for place in range(first, last + 1)
    )


def _for_powers(low: float, high: float, some: Ticks, rows: int) -> Point:
    """The limits of a logarithmic axis, raised a little where its numbers are powers, so that these are even, too."""
    steps = {round(b - a, 9) for (a, _), (b, _) in itertools.pairwise(some)}
    raised = _raised(high - low, steps.pop(), rows) if len(some) > 2 and len(steps) == 1 else None
    return low, high if raised is None else max(high, low + raised)


def _raised(span: float, step: float, rows: int) -> float | None:
    """The least span from this one on in which a step is a whole number of rows; None if those are too few."""
    gaps = rows - _AXIS_ROWS - 1
    apart = math.floor(step * gaps / span + 1e-9)
    return step * gaps / apart if apart >= _LEAST_APART else None


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


def _logarithms(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
    positive = (tuple((x, math.log10(y)) for x, y in segment if y > 0) for segment in segments)
    return tuple(segment for segment in positive if segment)
