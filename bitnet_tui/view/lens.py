"""What of a run's curves is looked at: which chart, by what, which stretch, where the crosshair stands.

Places are seen tokens throughout, so that they stay where they are when the run grows or the axis changes.
"""

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from bitnet_core.results.axes import LABELS, Label
from bitnet_core.results.curves import CLOCK, STEP
from bitnet_core.results.series import Point, Segment
from bitnet_core.text import count, duration, number, tick
from bitnet_tui.view.run_fold import CURVES, RunView

By = Literal["tokens", "step", "time"]
AXES: tuple[By, ...] = ("tokens", "step", "time")
AXIS_NAMES = {"tokens": "seen tokens", "step": "steps", "time": "time trained"}
_SHORTEST = 1e-3
"""The shortest stretch that can be looked at, as a share of the whole."""
SMOOTH = (0.0, 0.02, 0.08)
"""How far a smoothed curve looks back, as shares of the whole run; the first shows what was measured."""
_STEPS = 16
"""How often what is drawn moves while a run becomes twice as long."""


@dataclass(frozen=True)
class Chart:
    """Curves that have one scale. `log` says that it may be logarithmic, `label` writes the numbers of its axis."""

    name: str
    title: str
    curves: tuple[str, ...]
    log: bool = False
    label: Label = tick


ALL = "loss"
CHARTS: tuple[Chart, ...] = (
    Chart(ALL, "loss", CURVES, log=True),
    Chart("heldout", "held-out loss", ("heldout_loss",), log=True),
    Chart("grad", "gradient norm", ("grad_norm",), log=True),
    Chart("speed", "tokens/s", ("tokens_per_s",)),
    Chart("agreement", "agreement", ("agreement", "heldout_agreement"), label=LABELS["agreement"]),
    Chart("lr", "learning rate", ("lr",), label=LABELS["lr"]),
    Chart("memory", "peak memory", ("peak_rss_bytes", "peak_device_bytes")),
)
"""In the order of their importance, in which a grid that has no room for all shows them."""
ALONE: tuple[Chart, ...] = (
    Chart("total", "total", ("loss",), log=True),
    Chart("kl", "KL", ("kl",), log=True),
    Chart("ce", "CE", ("ce",), log=True),
    Chart("format", "format", ("format",), log=True),
)
"""The parts of the loss, each with a scale of its own."""


@dataclass(frozen=True)
class Lens:
    """`chart` is the chart that is shown alone. None shows the grid, or the first chart where a grid has no room.

    `window` is the stretch that is looked at, None for the whole run. `cursor` is where the crosshair stands.
    `smooth` is one of `SMOOTH`, and `hidden` names curves that are left out where there are others.
    """

    chart: str | None = None
    by: By = "tokens"
    log: bool = False
    window: Point | None = None
    cursor: float | None = None
    smooth: float = SMOOTH[0]
    hidden: frozenset[str] = frozenset()

    def drawn(self, chart: Chart) -> tuple[str, ...]:
        """The names of the chart's curves that are not hidden; all of them if none would be left."""
        return tuple(name for name in chart.curves if name not in self.hidden) or chart.curves

    def column(self, whole: Point, cells: int) -> float:
        """About how many tokens one column of a chart of this width is; `whole` is the stretch of all curves."""
        left, right = self.window or whole
        return (right - left) / max(1, cells)

    def toggled(self, curve: str) -> "Lens":
        """The curve hidden, or shown again."""
        return replace(self, hidden=self.hidden ^ {curve})

    def only(self, curve: str, chart: Chart) -> "Lens":
        """Of the chart's curves this one alone; all of them again if no other was shown."""
        others = frozenset(chart.curves) - {curve}
        return replace(
            self, hidden=self.hidden - {*chart.curves} | (frozenset() if others <= self.hidden else others)
        )

    def smoother(self) -> "Lens":
        return replace(self, smooth=SMOOTH[(SMOOTH.index(self.smooth) + 1) % len(SMOOTH)])

    def next_chart(self, view: RunView, by: int, *, grid: bool = True) -> "Lens":
        """Look at the next chart that has curves, or at all of them again. Without a grid, all is the first chart."""
        order = (*CHARTS[:2], *ALONE, *CHARTS[2:])
        others = [chart for chart in order if grid or chart is not first_chart(view)]
        names = [None, *(chart.name for chart in shown_charts(view, others))]
        place = names.index(self.chart) if self.chart in names else 0
        return replace(self, chart=names[(place + by) % len(names)])

    def next_axis(self) -> "Lens":
        return replace(self, by=AXES[(AXES.index(self.by) + 1) % len(AXES)])

    def whole(self) -> "Lens":
        return replace(self, window=None, cursor=None)

    def zoomed(self, extent: Point, factor: float, around: float | None = None) -> "Lens":
        """A stretch `factor` times as short, with `around` (or the crosshair, or the middle) at the same place."""
        left, right = self.window or extent
        middle = around if around is not None else self.cursor
        middle = (left + right) / 2 if middle is None else min(right, max(left, middle))
        least = _SHORTEST * (extent[1] - extent[0])
        length = max(least, (right - left) / factor)
        share = (middle - left) / (right - left) if right > left else 0.5
        return self._over(extent, middle - share * length, length)

    def panned(self, extent: Point, share: float) -> "Lens":
        """The stretch moved by a share of its length; the whole run stays as it is."""
        if self.window is None:
            return self
        left, right = self.window
        return self._over(extent, left + share * (right - left), right - left)

    def pointed(self, extent: Point, share: float) -> "Lens":
        """The crosshair moved by a share of the stretch; it begins in the middle."""
        left, right = self.window or extent
        at = (left + right) / 2 if self.cursor is None else self.cursor + share * (right - left)
        return replace(self, cursor=min(right, max(left, at)))

    def _over(self, extent: Point, left: float, length: float) -> "Lens":
        whole = extent[1] - extent[0]
        if length >= whole * (1 - 1e-9):
            return replace(self, window=None)
        left = min(extent[1] - length, max(extent[0], left))
        cursor = None if self.cursor is None else min(left + length, max(left, self.cursor))
        return replace(self, window=(left, left + length), cursor=cursor)


def shown_charts(view: RunView, charts: Iterable[Chart] = CHARTS) -> list[Chart]:
    """The charts of which something can be drawn."""
    drawn = {curve.name for curve in view.curves if curve.segments}
    return [chart for chart in charts if drawn.intersection(chart.curves)]


def first_chart(view: RunView) -> Chart:
    """What is shown where there is room for one chart: the held-out loss once it has a course, before that the loss.

    Beside its parts the loss looks flat, and health is told by the held-out loss.
    """
    loss, heldout = CHARTS[:2]
    points = sum(len(part) for curve in view.curves if curve.name in heldout.curves for part in curve.segments)
    return heldout if points > 1 else loss


def chart_named(name: str | None, view: RunView) -> Chart:
    """The chart that a lens looks at alone."""
    return next((chart for chart in (*CHARTS, *ALONE) if chart.name == name), first_chart(view))


def extent(view: RunView) -> Point | None:
    """The stretch of seen tokens that shows all curves; None if they have none.

    It ends a little behind the last point, but not behind the budget: so a run that grows rarely moves what is drawn.
    """
    ends = [(curve.segments[0][0][0], curve.segments[-1][-1][0]) for curve in view.curves if curve.segments]
    if not ends:
        return None
    left, right = min(end[0] for end in ends), max(end[1] for end in ends)
    if right <= left:
        return None
    step = 2.0 ** math.floor(math.log2(right - left)) / _STEPS
    budget = view.vitals.budget
    end = left + math.ceil((right - left) / step) * step
    return left, max(right, end if budget is None else min(end, budget))


@dataclass(frozen=True)
class Axis:
    """What is drawn to the right: seen tokens, or the steps or seconds since the beginning.

    Between the known points it is a straight line.
    """

    by: By
    seen: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    @classmethod
    def of(cls, view: RunView, by: By) -> "Axis":
        """For a run without the figures of another axis it is seen tokens."""
        name = {"step": STEP, "time": CLOCK}.get(by)
        segments = next((curve.segments for curve in view.curves if curve.name == name), ())
        joined = [point for segment in segments for point in segment]
        if by == "time" and joined:
            joined = _without_pauses(joined, view.seams)
        rising = _rising(joined)
        if len(rising) < 2:
            return cls("tokens")
        return cls(by, tuple(x for x, _ in rising), tuple(y for _, y in rising))

    def place(self, seen: float) -> float:
        return seen if self.by == "tokens" else _between(self.seen, self.values, seen)

    def seen_at(self, place: float) -> float:
        """The inverse of `place`."""
        return place if self.by == "tokens" else _between(self.values, self.seen, place)

    def words(self, seen: float) -> str:
        """A place on it: `61k tokens`, `step 121`, `3m 20s`."""
        at = self.place(seen)
        if self.by == "tokens":
            return f"{count(at)} tokens"
        return f"step {number(round(at))}" if self.by == "step" else duration(at)

    def stretch(self, left: float, right: float) -> str:
        """A part of it: `37k – 94k tokens`, `steps 12 – 31`, `3m 20s – 5m 10s`."""
        ends = self.words(left), self.words(right)
        if self.by == "step":
            return f"steps {' – '.join(one.removeprefix('step ') for one in ends)}"
        return f"{ends[0].removesuffix(' tokens')} – {ends[1]}"


def _without_pauses(points: list[Point], seams: tuple[float, ...]) -> list[Point]:
    """Seconds trained: what passed between the end of a run and the first figures of the next one is left out."""
    made, spent, before = [], 0.0, points[0]
    for x, clock in points:
        crossed = any(before[0] <= seam < x for seam in seams)
        spent += 0.0 if crossed else max(0.0, clock - before[1])
        made.append((x, spent))
        before = (x, clock)
    return made


def _rising(points: list[Point]) -> list[Point]:
    """The points in which both numbers grow, so that each place is at one number of tokens."""
    kept = points[:1]
    for point in points[1:]:
        if point[0] > kept[-1][0] and point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def _between(xs: tuple[float, ...], ys: tuple[float, ...], x: float) -> float:
    """Linear between the points, and beyond them as between the nearest two."""
    right = min(len(xs) - 1, max(1, bisect.bisect_right(xs, x)))
    (x0, x1), (y0, y1) = xs[right - 1 : right + 1], ys[right - 1 : right + 1]
    return y0 + (x - x0) / (x1 - x0) * (y1 - y0)


def value_at(segments: tuple[Segment, ...], seen: float, near: float, *, log: bool = False) -> float | None:
    """The value of the curve as it is drawn, straight between its points.

    None in a gap and beside the curve, if no point is as `near`. With `log`, it is straight on a logarithmic scale.
    """
    segment = next((one for one in segments if one[0][0] <= seen <= one[-1][0]), None)
    if segment is None:
        ends = (point for one in segments for point in (one[0], one[-1]) if abs(point[0] - seen) <= near)
        return min(ends, key=lambda point: abs(point[0] - seen), default=(seen, None))[1]
    right = bisect.bisect_left(segment, seen, key=lambda point: point[0])
    if segment[right][0] == seen:
        return segment[right][1]
    (x0, y0), (x1, y1) = segment[right - 1 : right + 1]
    part = (seen - x0) / (x1 - x0)
    return y0 * (y1 / y0) ** part if log and min(y0, y1) > 0 else y0 + part * (y1 - y0)
