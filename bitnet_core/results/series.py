"""A curve of any length in bounded memory: min-max buckets, merged in pairs when there are too many.

Each bucket keeps both its extremes, so a spike is never smoothed away. A value that is not finite makes a gap.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

Point = tuple[float, float]
Segment = tuple[Point, ...]
_MARKS = 64
_LARGEST = 1e30
"""Larger values, from a run that has gone wrong or from a foreign file, can't be drawn."""


@dataclass
class _Bucket:
    low: Point
    high: Point
    gap_before: bool = False

    def take(self, other: "_Bucket") -> None:
        self.low = min(self.low, other.low, key=lambda point: point[1])
        self.high = max(self.high, other.high, key=lambda point: point[1])

    def points(self) -> tuple[Point, ...]:
        if self.low == self.high:
            return (self.low,)
        return (self.low, self.high) if self.low[0] <= self.high[0] else (self.high, self.low)


@dataclass
class Series:
    """Append-only. `revision` grows with every point."""

    capacity: int = 512
    revision: int = 0
    _buckets: list[_Bucket] = field(default_factory=list)
    _stride: int = 1
    _in_last: int = 0
    _gap: bool = False
    _marks: list[float] = field(default_factory=list)

    def append(self, x: float, y: float | None) -> None:
        """Add a point; `y` is None, or not finite, for a value that was not finite."""
        self.revision += 1
        if not -_LARGEST <= x <= _LARGEST:
            return
        if y is None or not -_LARGEST <= y <= _LARGEST:
            self._gap = True
            self._marks.append(x)
            if len(self._marks) > 2 * _MARKS:
                self._marks = self._marks[::2]
            return
        if self._in_last < self._stride and not self._gap and self._buckets:
            # What nearly all points of a long run come to: no bucket is made for them.
            last = self._buckets[-1]
            if y < last.low[1]:
                last.low = (x, y)
            elif y > last.high[1]:
                last.high = (x, y)
            self._in_last += 1
            return
        self._buckets.append(_Bucket((x, y), (x, y), self._gap and bool(self._buckets)))
        self._in_last, self._gap = 1, False
        if len(self._buckets) > 2 * self.capacity:
            self._halve()

    def segments(self) -> tuple[Segment, ...]:
        """The curve as runs of points, split at the gaps."""
        segments: list[list[Point]] = []
        for bucket in self._buckets:
            if bucket.gap_before or not segments:
                segments.append([])
            segments[-1].extend(bucket.points())
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


def _pair_up(buckets: list[_Bucket], *, keep_gaps: bool) -> list[_Bucket]:
    merged: list[_Bucket] = []
    for index, bucket in enumerate(buckets):
        if index % 2 and not (keep_gaps and bucket.gap_before):
            merged[-1].take(bucket)
        else:
            merged.append(bucket)
    return merged


def thin(segments: Iterable[Segment], most: int) -> tuple[Segment, ...]:
    """At most about `most` points, with the extremes of each stretch of x kept.

    Stretches have equal widths; one that a gap cuts counts on both sides. If there are more gaps than a tenth of
    `most`, they would be too small to see, so the curve is joined.
    """
    kept = tuple(segment for segment in segments if segment)
    if len(kept) > max(1, most // 10):
        kept = (tuple(point for segment in kept for point in segment),)
    points = [point for segment in kept for point in segment]
    if len(points) <= most:
        return kept
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    stretches = max(1, most // 2)
    width = (right - left) / stretches or 1.0
    return tuple(_thin_one(segment, left, width, stretches) for segment in kept)


def _thin_one(segment: Segment, left: float, width: float, stretches: int) -> Segment:
    buckets: dict[int, _Bucket] = {}
    for point in segment:
        place = min(stretches - 1, int((point[0] - left) / width))
        buckets.setdefault(place, _Bucket(point, point)).take(_Bucket(point, point))
    return tuple(point for _, bucket in sorted(buckets.items()) for point in bucket.points())
