"""The curves of a training from its events: bounded, with gaps, and as one over all runs that continued it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter
from typing import Any, Protocol

from msgspec import UNSET

from bitnet_core.results.series import LARGEST, Segment, Series
from bitnet_core.runs.chain import Beginning, Begun, Start, counted, place_of
from bitnet_core.runs.event_words import changed_words
from bitnet_core.runs.events import Event, Flip, Metric, Progress, SettingsChanged
from bitnet_core.text import crop, finite

STEP, CLOCK, SHARE = "step", "clock", "quantized_share"
"""Curves that are not drawn, over the seen tokens: the step, the wall clock in Unix seconds, how ternary it is."""
TRACKED = (
    *("loss", "kl", "ce", "format"),
    *("heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement", "agreement"),
    *("lr", "grad_norm", "tokens_per_s", "peak_rss_bytes", "peak_device_bytes", SHARE, STEP, CLOCK),
)
"""Every curve, by the field of a metric that it follows."""
SHARES = frozenset({"agreement", "heldout_agreement"})
"""Curves whose values are shares."""
_MOST_WORDS = 60
"""Cells of what is told at a seam."""
_PARTS = frozenset({"kl", "format", "agreement"})
"""Means over some of a step's tokens: beside a cross-entropy, their absence says that there were no such tokens."""
_VALUES = attrgetter(*("t" if name == CLOCK else name for name in TRACKED))


@dataclass(frozen=True)
class Curve:
    """Its x are seen tokens; `not_finite` holds those of values that were not finite."""

    name: str
    segments: tuple[Segment, ...]
    not_finite: tuple[float, ...]


class Piece(Begun, Protocol):
    """One run of a training. `held_out` is its newest evaluation on held-out traces, `seen` the tokens that its
    progress told last.

    `changed` says under which other settings it went on; empty if under the same.
    """

    @property
    def curves(self) -> tuple[Curve, ...]: ...
    @property
    def flip(self) -> Flip | None: ...
    @property
    def held_out(self) -> Metric | None: ...
    @property
    def changed(self) -> str: ...
    @property
    def seen(self) -> float | None: ...


@dataclass
class CurveFold:
    """Feed it a run's events in order; it is a `Piece` of what came so far. `revision` grows with each metric."""

    flip: Flip | None = None
    held_out: Metric | None = None
    changed: str = ""
    seen: float | None = None
    revision: int = 0
    _start: Start = field(default_factory=Start)
    _series: dict[str, Series] = field(default_factory=lambda: {name: Series() for name in TRACKED})
    _made: tuple[int, tuple[Curve, ...]] = (-1, ())

    @property
    def begins(self) -> Beginning | None:
        return self._start.begins

    @property
    def curves(self) -> tuple[Curve, ...]:
        """The same object until the next metric."""
        if self._made[0] != self.revision:
            made = tuple(Curve(name, one.segments(), one.not_finite()) for name, one in self._series.items())
            self._made = (self.revision, made)
        return self._made[1]

    def feed(self, event: Event) -> None:
        if isinstance(event, Flip):
            self.flip = self.flip or event  # a ramp has several; its marker is at the first
        elif isinstance(event, SettingsChanged):
            self.changed = crop(changed_words(event), _MOST_WORDS)
        elif isinstance(event, Progress):  # it comes more often than figures
            seen = finite(event.seen_tokens)
            self.seen = self.seen if seen is None else seen
        if isinstance(event, Metric):
            self.feed_metrics([event])
        else:
            self._start.feed(event)

    def feed_metrics(self, events: Iterable[Metric]) -> None:
        """As `feed` for each; many at once cost much less."""
        placed: list[Metric] = []
        xs: list[float] = []
        for event in events:
            if event.heldout_loss is not UNSET or event.heldout_agreement is not UNSET:
                self.held_out = event
            if (x := place_of(event)) is not None and -LARGEST <= x <= LARGEST:
                placed.append(event)
                xs.append(x)
        if not placed:
            return
        self.revision += len(placed)
        self._start.feed(placed[0])
        columns = dict(zip(TRACKED, zip(*map(_VALUES, placed), strict=True), strict=True))
        for name, column in columns.items():
            series = self._series[name]
            known = [value for value in column if value is not UNSET]
            if len(known) == len(xs):
                series.extend(xs, known)
            elif name in _PARTS:
                _extend_with_gaps(series, xs, column, columns["ce"])
            elif known:
                series.extend([x for x, value in zip(xs, column, strict=True) if value is not UNSET], known)


def _extend_with_gaps(series: Series, xs: Sequence[float], column: Sequence[Any], beside: Sequence[Any]) -> None:
    """Add the values that are there, with a gap where there is none beside a value of the other column."""
    for absent, group in groupby(zip(xs, column, beside, strict=True), lambda point: point[1] is UNSET):
        points = list(group)
        if not absent:
            series.extend([x for x, _, _ in points], [y for _, y, _ in points])
        elif any(other is not UNSET for _, _, other in points):
            series.pause()


@dataclass(frozen=True)
class Training:
    """The curves of a training up to one of its runs; `seams` are the x where a run took over, in ascending order.

    `turns` say at each seam under which other settings it went on; empty if under the same. `seen` are the
    tokens that its newest progress told, which may be behind the last point of the curves.
    """

    curves: tuple[Curve, ...] = ()
    seams: tuple[float, ...] = ()
    turns: tuple[str, ...] = ()
    flip: Flip | None = None
    held_out: Metric | None = None
    seen: float | None = None

    def points(self, name: str) -> list[tuple[float, float]]:
        """The points of a curve, in the order of their x."""
        return [point for c in self.curves if c.name == name for segment in c.segments for point in segment]

    @property
    def ternary_from(self) -> float:
        """The x behind the last at which the student was not ternary yet; -1 if it always was."""
        return max((x for x, share in self.points(SHARE) if share < 1), default=-1)


def joined(newest_first: Sequence[Piece]) -> Training:
    """One curve over these runs. What an older run did after the point from which a newer one resumed was lost."""
    pieces: dict[str, list[Curve]] = {name: [] for name in TRACKED}
    seams: list[tuple[float, str]] = []
    flip = held_out = seen = None
    for run, end in counted(newest_first):
        for curve in run.curves:
            pieces[curve.name].insert(0, until(curve, end))
        if run.flip is not None and run.flip.seen_tokens <= end:
            flip = run.flip
        if held_out is None and run.held_out is not None:
            at = place_of(run.held_out)
            held_out = run.held_out if at is None or at <= end else _last_held_out(run.curves, end)
        if seen is None and run.seen is not None:
            seen = min(run.seen, end)
        if run.begins is not None and run.begins.resumed and run.begins.seam < end:
            seams.insert(0, (run.begins.seam, run.changed))
    curves = tuple(_connected(name, parts) for name, parts in pieces.items())
    places, turns = tuple(x for x, _ in seams), tuple(words for _, words in seams)
    return Training(curves, places, turns, flip, held_out, seen)


def _last_held_out(curves: Sequence[Curve], end: float) -> Metric | None:
    """The last evaluation up to `end`, from the curves: the newest event may be of steps that were lost."""
    found = {curve.name: dict(point for one in until(curve, end).segments for point in one) for curve in curves}
    at = max(found.get("heldout_loss", ()), default=None)
    if at is None:
        return None
    names = ("heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement")
    figures: dict[str, Any] = {name: found[name][at] for name in names if at in found.get(name, ())}
    if (step := found.get(STEP, {}).get(at)) is not None:
        figures["step"] = int(step)
    return Metric(seen_tokens=int(at), **figures)


def moved(curve: Curve, place: Callable[[float], float]) -> Curve:
    """The curve with another axis below it."""
    segments = tuple(tuple((place(x), y) for x, y in segment) for segment in curve.segments)
    return replace(curve, segments=segments, not_finite=tuple(map(place, curve.not_finite)))


def until(curve: Curve, end: float) -> Curve:
    """What the curve has up to `end`."""
    segments = (tuple(point for point in segment if point[0] <= end) for segment in curve.segments)
    kept = tuple(segment for segment in segments if segment)
    return Curve(curve.name, kept, tuple(x for x in curve.not_finite if x <= end))


def _connected(name: str, parts: Sequence[Curve]) -> Curve:
    """The parts as one curve, without gaps where they meet."""
    segments: list[Segment] = []
    for part in parts:
        first, *others = part.segments or ((),)
        segments[-1:] = [segments[-1] + first] if segments else [first]
        segments += others
    kept = tuple(segment for segment in segments if segment)
    return Curve(name, kept, tuple(x for part in parts for x in part.not_finite))
