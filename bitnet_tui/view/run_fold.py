"""Folds a run's events, one by one as they come, into what the screen shows of it. Any JSON is survived."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from bitnet_core.events import Event
from bitnet_tui.view import log_lines
from bitnet_tui.view.numbers import finite
from bitnet_tui.view.series import Segment, Series
from bitnet_tui.view.spans import printable

CURVES = ("loss", "kl", "ce", "format")
_LOG_LINES = 2000
_SAMPLES = 20
_ALERTS = 50


@dataclass(frozen=True)
class Progress:
    done: float
    total: float | None
    unit: str
    rate: float | None
    eta_s: float | None
    label: str


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


@dataclass(frozen=True)
class Curve:
    name: str
    segments: tuple[Segment, ...]
    not_finite: tuple[float, ...]


@dataclass(frozen=True)
class Flip:
    seen_tokens: float
    from_bits: str
    to_bits: str


@dataclass(frozen=True)
class Sample:
    prompt: str
    text: str
    source: str


@dataclass(frozen=True)
class Alert:
    severity: str
    code: str
    message: str
    advice: str
    times: int = 1


@dataclass(frozen=True)
class Table:
    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Traces:
    """What collecting has brought so far."""

    sequences: int = 0
    tokens: float = 0
    kept: float = 0
    dropped: tuple[tuple[str, float], ...] = ()
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
    alerts: tuple[Alert, ...] = ()
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

    def feed(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.get("seq") == 0 and self._seen:
                self._start_anew()
            self._seen += 1
            take = getattr(self, f"_on_{event.get('kind')}", None)
            if take is not None:
                take(event)
            text = log_lines.of_event(event)
            if text is not None:
                self._log.extend(text)
                self._log_total += len(text)

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

    def _on_run_started(self, event: Event) -> None:
        self._set(device=text_of(event, "device"))

    def _on_progress(self, event: Event) -> None:
        done = finite(event.get("done"))
        if done is not None:
            total = finite(event.get("total"))
            self._set(
                progress=Progress(
                    done,
                    total if total and total > 0 else None,
                    text_of(event, "unit"),
                    finite(event.get("rate")),
                    finite(event.get("eta_s")),
                    text_of(event, "label"),
                )
            )

    def _on_metric(self, event: Event) -> None:
        names = Metric.__dataclass_fields__
        told = {name: finite(event[name]) for name in names if name in event}
        self._set(metric=replace(self._view.metric, **told))
        x = told.get("seen_tokens") if told.get("seen_tokens") is not None else told.get("step")
        if x is not None:
            for name, series in self._series.items():
                if name in event:
                    series.append(x, told[name])

    def _on_flip(self, event: Event) -> None:
        seen = finite(event.get("seen_tokens"))
        bits = [finite(event.get(name)) for name in ("from_bits", "to_bits")]
        if seen is not None and self._view.flip is None:  # the marker of a ramp stands where it begins
            self._set(flip=Flip(seen, *(f"A{bit:.0f}" if bit is not None else "A?" for bit in bits)))

    def _on_checkpoint(self, _: Event) -> None:
        self._set(checkpoints=self._view.checkpoints + 1)

    def _on_sample(self, event: Event) -> None:
        sample = Sample(*(text_of(event, name) for name in ("prompt", "text", "source")))
        self._set(samples=(*self._view.samples, sample)[-_SAMPLES:])

    def _on_alert(self, event: Event) -> None:
        severity, code, message, advice = (text_of(event, n) for n in ("severity", "code", "message", "advice"))
        same = [alert for alert in self._view.alerts if code and alert.code == code]
        others = tuple(alert for alert in self._view.alerts if alert not in same)
        alert = Alert(severity, code, message, advice, times=1 + sum(a.times for a in same))
        self._set(alerts=(*others, alert)[-_ALERTS:])

    def _on_table(self, event: Event) -> None:
        columns, rows = event.get("columns"), event.get("rows")
        if not isinstance(columns, list) or not isinstance(rows, list):
            return
        table = Table(
            text_of(event, "name"),
            tuple(printable(str(column)) for column in columns),
            tuple(tuple(row) for row in rows if isinstance(row, list)),
        )
        self._set(tables=(*(t for t in self._view.tables if t.name != table.name), table))

    def _on_trace(self, event: Event) -> None:
        before = self._view.traces
        dropped = dict(before.dropped)
        if isinstance(event.get("dropped"), dict):
            for reason, number in event["dropped"].items():
                dropped[str(reason)] = dropped.get(str(reason), 0) + (finite(number) or 0)
        mass = finite(event.get("other_mass_mean"))
        self._set(
            traces=Traces(
                before.sequences + 1,
                before.tokens + (finite(event.get("tokens")) or 0),
                before.kept + (finite(event.get("kept")) or 0),
                tuple(sorted((reason, number) for reason, number in dropped.items() if number)),
                before.other_mass_mean if mass is None else mass,
            )
        )


def text_of(event: Event, name: str) -> str:
    """A field as text that is safe to draw; absent and null are empty."""
    value = event.get(name)
    return "" if value is None else printable(value if isinstance(value, str) else str(value))
