"""A curve of any length in bounded memory: min-max buckets, merged in pairs when there are too many.

Each bucket keeps both its extremes, so a spike is never smoothed away. A gap is where a value was not finite, and
where there was none though the others of its kind had one.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from bitnet_core.text import finite

Point = tuple[float, float]
Segment = tuple[Point, ...]
_MARKS = 64
LARGEST = 1e30
"""Larger values, from a run that has gone wrong or from a foreign file, can't be drawn."""


class _Bucket(Struct, gc=False):
    low: Point
    high: Point
    gap_before: bool = False

    def take(self, other: "_Bucket") -> None:
        if other.low[1] < self.low[1]:
            self.low = other.low
        if other.high[1] > self.high[1]:
            self.high = other.high

    def points(self) -> tuple[Point, ...]:
        if self.low == self.high:
            return (self.low,)
        return (self.low, self.high) if self.low[0] <= self.high[0] else (self.high, self.low)


@dataclass
class Series:
    """Append-only."""

    capacity: int = 512
    _buckets: list[_Bucket] = field(default_factory=list)
    _stride: int = 1
    _in_last: int = 0
    _gap: bool = False
    _marks: list[float] = field(default_factory=list)
    _newest: Point | None = None

    def append(self, x: float, y: float | None) -> None:
        """Add a point; `y` is None, or not finite, for a value that was not finite."""
        if not -LARGEST <= x <= LARGEST:
            return
        if y is None or not -LARGEST <= y <= LARGEST:
            self.pause()
            self._marks.append(x)
            if len(self._marks) > 2 * _MARKS:
                self._marks = self._marks[::2]
            return
        point = self._newest = (x, y)
        if self._in_last < self._stride and not self._gap and self._buckets:
            self._buckets[-1].take(_Bucket(point, point))
            self._in_last += 1
            return
        self._buckets.append(_Bucket(point, point, self._gap and bool(self._buckets)))
        self._in_last, self._gap = 1, False
        if len(self._buckets) > 2 * self.capacity:
            self._halve()

    def pause(self) -> None:
        """Begin a gap: the next point is not joined to the one before."""
        self._gap = True

    def extend(self, xs: Sequence[float], ys: Sequence[object]) -> None:
        """As `append` for each of these, of which each x can be drawn. What is no finite number becomes None."""
        if not _can_be_drawn(ys):  # type: ignore[arg-type]
            for x, y in zip(xs, ys, strict=True):
                self.append(x, finite(y))
            return
        place = 0
        while place < len(ys):
            room = self._stride - self._in_last if self._buckets and not self._gap else 0
            if room > 0:  # what nearly all points of a long run come to: they share the newest bucket
                self._fill(xs[place : place + room], ys[place : place + room])  # type: ignore[arg-type]
            else:
                self.append(xs[place], finite(ys[place]))
            place += max(1, room)

    def _fill(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Add points for which the newest bucket has room."""
        low, high = min(ys), max(ys)
        lowest, highest = (xs[ys.index(low)], float(low)), (xs[ys.index(high)], float(high))
        self._buckets[-1].take(_Bucket(lowest, highest))
        self._newest = xs[-1], float(ys[-1])
        self._in_last += len(ys)

    def segments(self) -> tuple[Segment, ...]:
        """The curve as runs of points, split at the gaps; the newest point is the last one."""
        segments: list[list[Point]] = []
        for bucket in self._buckets:
            if bucket.gap_before or not segments:
                segments.append([])
            segments[-1].extend(bucket.points())
        if self._newest is not None and self._newest[0] > segments[-1][-1][0]:
            segments[-1].append(self._newest)
        return tuple(tuple(segment) for segment in segments)

    def not_finite(self) -> tuple[float, ...]:
        """The x of values that were not finite; thinned if there are very many."""
        return tuple(self._marks)

    def _halve(self) -> None:
        merged = _pair_up(self._buckets, keep_gaps=True)
        if len(merged) > self.capacity * 3 // 2:  # keeping this many gaps would grow without bound
            merged = _pair_up(self._buckets, keep_gaps=False)
        self._buckets = merged
        self._stride *= 2
        self._in_last = self._stride


def _can_be_drawn(values: Sequence[float]) -> bool:
    """Whether all are numbers of which none is NaN or too large."""
    try:
        return math.isfinite(sum(values)) and min(values) >= -LARGEST and max(values) <= LARGEST
    except (TypeError, ValueError, OverflowError):
        return False


def _pair_up(buckets: list[_Bucket], *, keep_gaps: bool) -> list[_Bucket]:
    merged: list[_Bucket] = []
    for index, bucket in enumerate(buckets):
        if index % 2 and not (keep_gaps and bucket.gap_before):
            merged[-1].take(bucket)
        else:
            merged.append(bucket)
    return merged


def thin(segments: Iterable[Segment], most: int, limits: Point | None = None) -> tuple[Segment, ...]:
    """At most about `most` points, with the extremes of each stretch of x kept.

    Stretches have equal widths between the limits, or else between the first and the last point. One that a gap cuts
    counts on both sides. With the same limits, later points change no earlier stretch. If there are more gaps than a
    tenth of `most`, they would be too small to see, so the curve is joined.
    """
    kept = tuple(segment for segment in segments if segment)
    if len(kept) > max(1, most // 10):
        kept = (tuple(point for segment in kept for point in segment),)
    points = [point for segment in kept for point in segment]
    if len(points) <= most:
        return kept
    left, right = limits or (min(p[0] for p in points), max(p[0] for p in points))
    stretches = max(1, most // 2)
    width = (right - left) / stretches or 1.0
    return tuple(_thin_one(segment, left, width, stretches) for segment in kept)


def _thin_one(segment: Segment, left: float, width: float, stretches: int) -> Segment:
    buckets: dict[int, _Bucket] = {}
    for point in segment:
        place = min(stretches - 1, int((point[0] - left) / width))
        buckets.setdefault(place, _Bucket(point, point)).take(_Bucket(point, point))
    return tuple(point for _, bucket in sorted(buckets.items()) for point in bucket.points())
