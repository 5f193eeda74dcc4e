"""Folds a run's events, one by one as they come, into what the screen shows of it. Any JSON is survived."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import UNSET

from bitnet_core.runs.events import (
    Alert,
    AnyEvent,
    CheckpointSaved,
    Flip,
    Progress,
    RunStarted,
    Sample,
    Table,
    Trace,
)
from bitnet_core.runs.events import Metric as MetricEvent
from bitnet_core.text import finite, printable
from bitnet_tui.view import log_lines
from bitnet_tui.view.series import Segment, Series

CURVES = ("loss", "kl", "ce", "format")
_LOG_LINES = 2000
_SAMPLES = 20
_ALERTS = 50


@dataclass(frozen=True)
class Metric:
    """The newest value of everything a metric event may carry; None = never told, or not finite just now."""

    step: float | None = None
    seen_tokens: float | None = None
    loss: float | None = None
    kl: float | None = None
    ce: float | None = None
    format: float | None = None
    lr: float | None = None
    grad_norm: float | None = None
    tokens_per_s: float | None = None
    activation_bits: float | None = None
    nonfinite: float | None = None
    peak_rss_bytes: float | None = None


_METRICS = tuple(Metric.__dataclass_fields__)


@dataclass(frozen=True)
class Curve:
    name: str
    segments: tuple[Segment, ...]
    not_finite: tuple[float, ...]


@dataclass(frozen=True)
class ShownAlert:
    """The newest alert of its code, and how many there were."""

    alert: Alert
    times: int = 1


@dataclass(frozen=True)
class Traces:
    """What collecting has brought so far."""

    sequences: int = 0
    tokens: float = 0
    kept: float = 0
    dropped: tuple[tuple[str, int], ...] = ()
    other_mass_mean: float | None = None


@dataclass(frozen=True)
class RunView:
    """A frozen picture of one run's events. `revision` grows with every event."""

    revision: int = 0
    device: str = ""
    progress: Progress | None = None
    metric: Metric = Metric()
    curves: tuple[Curve, ...] = ()
    flip: Flip | None = None
    samples: tuple[Sample, ...] = ()
    alerts: tuple[ShownAlert, ...] = ()
    tables: tuple[Table, ...] = ()
    traces: Traces = Traces()
    checkpoints: int = 0
    log: tuple[str, ...] = ()
    log_total: int = 0


@dataclass
class RunFold:
    """Feed it events; `view` is cheap and equal as long as nothing came."""

    _view: RunView = RunView()
    _series: dict[str, Series] = field(default_factory=lambda: {name: Series() for name in CURVES})
    _log: deque[str] = field(default_factory=lambda: deque(maxlen=_LOG_LINES))
    _seen: int = 0
    _log_total: int = 0
    _curves_at: int = -1

    def feed(self, events: Iterable[AnyEvent]) -> None:
        for event in events:
            if event.seq == 0 and self._seen:
                self._start_anew()
            self._seen += 1
            self._take(event)
            lines = log_lines.of_event(event)
            self._log.extend(lines)
            self._log_total += len(lines)

    def view(self) -> RunView:
        if self._view.revision != self._seen:
            drawn = sum(series.revision for series in self._series.values())
            curves = self._view.curves
            if drawn != self._curves_at:
                self._curves_at = drawn
                curves = tuple(Curve(name, s.segments(), s.not_finite()) for name, s in self._series.items())
            self._view = replace(
                self._view, revision=self._seen, curves=curves, log=tuple(self._log), log_total=self._log_total
            )
        return self._view

    def _start_anew(self) -> None:
        """The file was truncated or replaced: what was folded is no longer what it says."""
        self._view = RunView()
        self._series = {name: Series() for name in CURVES}
        self._log.clear()
        self._curves_at = -1

    def _set(self, **changes: Any) -> None:
        self._view = replace(self._view, **changes)

    def _take(self, event: AnyEvent) -> None:
        match event:
            case RunStarted():
                self._set(device=printable(event.device))
            case Progress():
                self._set(progress=event)
            case MetricEvent():
                self._take_metric(event)
            case Flip() if self._view.flip is None:  # the marker of a ramp stands where it begins
                self._set(flip=event)
            case CheckpointSaved():
                self._set(checkpoints=self._view.checkpoints + 1)
            case Sample():
                self._set(samples=(*self._view.samples, event)[-_SAMPLES:])
            case Alert():
                self._take_alert(event)
            case Table():
                self._set(tables=(*(t for t in self._view.tables if t.name != event.name), event))
            case Trace():
                self._take_trace(event)
            case _:
                pass

    def _take_metric(self, event: MetricEvent) -> None:
        told = {name: finite(value) for name in _METRICS if (value := getattr(event, name)) is not UNSET}
        self._set(metric=replace(self._view.metric, **told))
        x = told.get("seen_tokens") if told.get("seen_tokens") is not None else told.get("step")
        if x is not None:
            for name, series in self._series.items():
                if name in told:
                    series.append(x, told[name])

    def _take_alert(self, event: Alert) -> None:
        same = [shown for shown in self._view.alerts if event.code and shown.alert.code == event.code]
        others = tuple(shown for shown in self._view.alerts if shown not in same)
        shown = ShownAlert(event, times=1 + sum(one.times for one in same))
        self._set(alerts=(*others, shown)[-_ALERTS:])

    def _take_trace(self, event: Trace) -> None:
        before = self._view.traces
        dropped = dict(before.dropped)
        for reason, number in event.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + number
        mass = finite(event.other_mass_mean)
        self._set(
            traces=Traces(
                before.sequences + 1,
                before.tokens + event.tokens,
                before.kept + event.kept,
                tuple(sorted((reason, number) for reason, number in dropped.items() if number)),
                before.other_mass_mean if mass is None else mass,
            )
        )
