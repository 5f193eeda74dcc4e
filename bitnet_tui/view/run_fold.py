"""Folds a run's events, one by one as they arrive, into what the screen shows of it, in bounded memory."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

from msgspec import UNSET, structs

from bitnet_core.results.curves import Curve, CurveFold
from bitnet_core.runs.chain import Beginning
from bitnet_core.runs.event_words import describe, mark
from bitnet_core.runs.events import (
    Alert,
    Budget,
    Event,
    Flip,
    Log,
    Metric,
    Progress,
    RunFinished,
    RunStarted,
    Sample,
    SettingsChanged,
    Table,
    Trace,
)
from bitnet_core.runs.vitals import Vitals, VitalSigns
from bitnet_core.text import finite, printable
from bitnet_tui.remedies import in_app
from bitnet_tui.view.bounded import add_reasons, bounded, newest_tables

LEVELS = ("debug", "info", "warning", "error")
"""Of the log, the least severe first."""
CURVES = ("loss", "kl", "ce", "format")
_MOST_LOG_LINES = 2000
_MOST_SAMPLES = 20
_MOST_ALERTS = 50
_SILENT = (Progress, Metric, Trace)
"""Of these there are no lines in the log."""
_CONTINUED = 10 * " "
"""How a line of the log begins that belongs to the one above it."""
LOG_LEAD = len(_CONTINUED) + 1
"""The characters of a line of the log before its words: the time and the mark, or as many spaces."""
_BITS = ("activation_bits", "layers_at_4_bits", "layers")
_METRIC_FIELDS = tuple(name for name in Metric.__struct_fields__ if name not in Event.__struct_fields__)
_VALUES = attrgetter(*_METRIC_FIELDS)


@dataclass(frozen=True)
class ShownAlert:
    """The newest alert of its code, and how many there were."""

    alert: Alert
    times: int = 1


@dataclass(frozen=True)
class Traces:
    """The sum of the `trace` events so far. `other_mass` is the mean over the steps kept; `newest` is the newest
    event that shows an answer."""

    sequences: int = 0
    dropped: tuple[tuple[str, int], ...] = ()
    mended: int = 0
    other_sum: float = 0.0
    other_steps: float = 0
    newest: Trace | None = None

    @property
    def other_mass(self) -> float | None:
        return self.other_sum / self.other_steps if self.other_steps else None


@dataclass(frozen=True)
class RunView:
    """A frozen picture of one run's events. `revision` grows with every event; `newest` is when the last was written.

    `metric` holds the newest value of each field: unset if there was none, None if it was not finite. `held_out` is
    the newest evaluation on held-out traces. `seams` are the x where another run of the training took over, and
    `turns` say at each under which other settings; `changed` is that of this run. Long
    texts and tables are cut; else texts are as they were written: pass them through `printable` before drawing.
    """

    revision: int = 0
    newest: float | None = None
    device: str = ""
    progress: Progress | None = None
    metric: Metric = field(default_factory=Metric)
    seen: float | None = None
    """The tokens that a training has seen, by the newest event that says so."""
    step: float | None = None
    """Its step then."""
    held_out: Metric | None = None
    begins: Beginning | None = None
    curves: tuple[Curve, ...] = ()
    seams: tuple[float, ...] = ()
    turns: tuple[str, ...] = ()
    changed: str = ""
    flip: Flip | None = None
    samples: tuple[Sample, ...] = ()
    alerts: tuple[ShownAlert, ...] = ()
    tables: tuple[Table, ...] = ()
    traces: Traces = Traces()
    log: tuple[str, ...] = ()
    log_levels: tuple[str, ...] = ()
    """Of each line of the log: `debug`, `info`, `warning` or `error`."""
    log_total: int = 0
    vitals: Vitals = field(default_factory=Vitals)
    unread: float = 0.0
    """The share of the events that is still being read. Until then a figure is the final one or is not there."""

    @property
    def charted(self) -> bool:
        """Whether there is a curve to draw."""
        return any(curve.segments for curve in self.curves)

    @property
    def flips(self) -> tuple[float, ...]:
        """Where flips are marked, in seen tokens."""
        return (float(self.flip.seen_tokens),) if self.flip else ()

    @property
    def flip_names(self) -> tuple[str, ...]:
        """Whose each flip is, as the letters of its curves; none where there is one training."""
        return ()


@dataclass
class RunFold:
    """Feed it events; `view` returns the same object until the next event."""

    _view: RunView = RunView()
    _metric: Metric = field(default_factory=Metric)
    _progress: Progress | None = None
    _seen: tuple[int, float | None, float | None] = (-1, None, None)
    """The number of the event that told the seen tokens, how many, and its step."""
    _newest: Event | None = None
    """What changes with every event is kept beside the view, which is made when it is asked for."""
    _curves: CurveFold = field(default_factory=CurveFold)
    _signs: VitalSigns = field(default_factory=VitalSigns)
    _log: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_LOG_LINES))
    _levels: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_LOG_LINES))
    _events: int = 0
    _log_total: int = 0

    def feed(self, events: Iterable[Event]) -> None:
        metrics: list[Metric] = []
        for event in map(bounded, events):
            if event.seq == 0 and self._events:
                metrics.clear()
                self._start_over()
            self._events += 1
            self._newest = event
            self._signs.feed(event)
            if type(event) is Metric:
                metrics.append(event)
                continue
            self._take(event)
            if lines := _log_lines(event):
                self._log.extend(lines)
                self._levels.extend([_level(event)] * len(lines))
                self._log_total += len(lines)
        if metrics:
            self._take_metrics(metrics)

    def view(self) -> RunView:
        if self._view.revision != self._events:
            self._view = replace(
                self._view,
                revision=self._events,
                newest=finite(self._newest.t) if self._newest else None,
                metric=self._metric,
                progress=self._progress,
                seen=self._seen[1],
                step=self._seen[2],
                curves=self._curves.curves,
                begins=self._curves.begins,
                flip=self._curves.flip,
                changed=self._curves.changed,
                held_out=self._curves.held_out,
                log=tuple(self._log),
                log_levels=tuple(self._levels),
                log_total=self._log_total,
                vitals=self._signs.view(),
            )
        return self._view

    def _start_over(self) -> None:
        """The file was truncated or replaced, so what was folded from it no longer holds."""
        self._view, self._metric, self._progress, self._seen = RunView(), Metric(), None, (-1, None, None)
        self._curves = CurveFold()
        self._signs = VitalSigns()
        self._log.clear()
        self._levels.clear()

    def _set(self, **changes: Any) -> None:
        self._view = replace(self._view, **changes)

    def _take(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._set(device=printable(event.device))
            case Progress():
                self._progress = event
                self._saw(event)
            case Budget() | Flip() | SettingsChanged():
                self._curves.feed(event)
                if isinstance(event, Budget) and self._metric.activation_bits is UNSET:
                    told = {name: getattr(event, name) for name in _BITS}
                    self._metric = structs.replace(self._metric, **told)
            case Sample():
                self._set(samples=(*self._view.samples, event)[-_MOST_SAMPLES:])
            case Alert():
                self._take_alert(event)
            case Table():
                others = (table for table in self._view.tables if table.name != event.name)
                self._set(tables=newest_tables((*others, event)))
            case Trace():
                self._take_trace(event)
            case _:
                pass

    def _take_metrics(self, events: list[Metric]) -> None:
        """Many at once: of a run's events most are metrics, and their order among the others does not matter here."""
        columns = zip(_METRIC_FIELDS, zip(*map(_VALUES, reversed(events)), strict=True), strict=True)
        newest = ((name, next((one for one in column if one is not UNSET), UNSET)) for name, column in columns)
        self._metric = structs.replace(self._metric, **{name: one for name, one in newest if one is not UNSET})
        self._curves.feed_metrics(events)
        self._saw(next((one for one in reversed(events) if one.seen_tokens is not UNSET), events[-1]))

    def _saw(self, event: Metric | Progress) -> None:
        if event.seq >= self._seen[0] and (seen := finite(event.seen_tokens)) is not None:
            step = finite(event.step)
            if step is None:  # of versions that told it with their metrics only
                steps = event.done if isinstance(event, Progress) and event.unit == "steps" else self._metric.step
                step = finite(steps)
            self._seen = event.seq, seen, step

    def _take_alert(self, event: Alert) -> None:
        same = [shown for shown in self._view.alerts if event.code and shown.alert.code == event.code]
        others = tuple(shown for shown in self._view.alerts if shown not in same)
        shown = ShownAlert(event, times=1 + sum(one.times for one in same))
        self._set(alerts=(*others, shown)[-_MOST_ALERTS:])

    def _take_trace(self, event: Trace) -> None:
        before = self._view.traces
        mass = finite(event.other_mass_mean)
        steps = 0.0 if mass is None else finite(event.kept) or 0.0
        self._set(
            traces=Traces(
                before.sequences + 1,
                add_reasons(before.dropped, event.dropped),
                before.mended + (1 if event.repaired else 0),
                before.other_sum + (mass or 0.0) * steps,
                before.other_steps + steps,
                event if event.pieces else before.newest,
            )
        )


def _log_lines(event: Event) -> list[str]:
    """One event as lines of the log: the first with the local time, the others indented. Some events have none."""
    text = "" if isinstance(event, _SILENT) else describe(event)
    text = text if isinstance(event, Sample) else in_app(text)  # a sample is a model's own words
    if not text:
        return []
    first, *others = text.split("\n")
    return [f"{_clock(event.t)} {mark(event)} {first}", *(f"{_CONTINUED} {other}" for other in others)]


def begins(log_line: str) -> bool:
    """Whether a message begins with this line of the log."""
    return not log_line.startswith(_CONTINUED)


def _level(event: Event) -> str:
    """How much an event matters, as a level of the log."""
    match event:
        case Log():
            return event.level if event.level in LEVELS else "info"
        case Alert():
            return "warning" if event.severity == "warning" else "error"
        case RunFinished():
            return "error" if event.state == "failed" else "info"
    return "info"


def _clock(moment: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (OverflowError, OSError, ValueError):
        return "--:--:--"
