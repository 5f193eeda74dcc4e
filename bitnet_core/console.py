"""Events as text: a line each, a redrawn progress line on a terminal, aligned tables. Knows no stage."""

import json
import shutil
import sys
import textwrap
import time
from typing import Any, TextIO

from bitnet_core.events import Event

_PLAIN_PROGRESS_SECONDS = 10.0
_PLAIN_WIDTH = 120
_LEAST_PROSE = 24
_METRICS = {
    **{name: name for name in ("loss", "kl", "ce", "format", "lr", "grad_norm")},
    "tokens_per_s": "tokens/s",
    "heldout_loss": "held-out loss",
    "heldout_agreement": "agreement with the teacher",
}
_MARKS = {"succeeded": "✓", "failed": "✗", "cancelled": "■", "interrupted": "✗"}


class Console:
    """Renders the events of one or more runs to a stream."""

    def __init__(self, stream: TextIO | None = None, *, as_json: bool = False) -> None:
        self._stream = stream or sys.stdout
        self._json = as_json
        self._live = self._stream.isatty() and not as_json
        self._open_line = False
        self._last_progress = 0.0

    def event(self, run_id: str, event: Event) -> None:
        if self._json:
            self._stream.write(json.dumps(event | {"run": run_id}, ensure_ascii=False) + "\n")
            self._stream.flush()
            return
        text = render(event, shutil.get_terminal_size((_PLAIN_WIDTH, 24)).columns)
        if event["kind"] == "progress":
            self._progress(text)
        elif text:
            self.line(text)

    def line(self, text: str) -> None:
        """Write a line of its own, under the progress line if there is one."""
        if self._open_line:
            self._stream.write("\r\x1b[K")
            self._open_line = False
        self._stream.write(text + "\n")
        self._stream.flush()

    def _progress(self, text: str) -> None:
        now = time.monotonic()
        if self._live:
            # A line that wraps could not be redrawn.
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()
            self._open_line = True
        elif now - self._last_progress >= _PLAIN_PROGRESS_SECONDS:
            self._last_progress = now
            self.line(text)


def render(event: Event, width: int | None = None) -> str:
    """One event as text; empty for one that says nothing to people. `width` is that of the terminal."""
    kind = event["kind"]
    if kind == "table":
        return render_table(event["name"], event["columns"], event["rows"], width)
    renderer = _RENDERERS.get(kind)
    return renderer(event) if renderer else ""


def render_table(name: str, columns: list[str], rows: list[list[Any]], width: int | None = None) -> str:
    """A table with aligned columns, numbers to the right; a last column of prose folds to stay within `width`."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in cells), 0) for i, column in enumerate(columns)]
    numeric = [all(isinstance(row[i], (int, float)) or row[i] is None for row in rows) for i in range(len(columns))]
    if width is not None and not numeric[-1]:
        taken = sum(size + 2 for size in widths[:-1]) + 2
        widths[-1] = min(widths[-1], max(width - taken, _LEAST_PROSE, len(columns[-1])))

    def lines(texts: list[str]) -> list[str]:
        folded = textwrap.wrap(texts[-1], widths[-1]) or [""]
        table = [[*texts[:-1], folded[0]], *([""] * (len(texts) - 1) + [more] for more in folded[1:])]
        return [_aligned(row, widths, numeric) for row in table]

    body = [line for row in cells for line in lines(row)]
    rule = _aligned(["─" * w for w in widths], widths, numeric)
    return "\n".join([f"── {name} ──", _aligned(columns, widths, numeric), rule, *body])


def _aligned(texts: list[str], widths: list[int], numeric: list[bool]) -> str:
    placed = [t.rjust(w) if n else t.ljust(w) for t, w, n in zip(texts, widths, numeric, strict=True)]
    return "  " + "  ".join(placed).rstrip()


def number(value: float | None, digits: int = 4) -> str:
    """A number as people read it: 12,345 · 0.0123 · 1.50e-05 · – for none."""
    if value is None:
        return "–"
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.2e}"


def size(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, (int, float)) else str(value)


def _progress_line(event: Event) -> str:
    total = f"/{number(event['total'])}" if event.get("total") else ""
    rate = f"  {number(event['rate'], 3)} {event['unit']}/s" if event.get("rate") else ""
    eta = f"  {duration(event['eta_s'])} left" if event.get("eta_s") else ""
    label = f"{event['label']}  " if event.get("label") else ""
    return f"  {label}{number(event['done'])}{total} {event['unit']}{rate}{eta}"


def _metric_line(event: Event) -> str:
    if event.get("step") is None:
        return ""  # a rate of something that shows progress already
    parts = [f"{label} {number(event[name])}" for name, label in _METRICS.items() if event.get(name) is not None]
    bits = f"A{event['activation_bits']}" if event.get("activation_bits") else ""
    bad = f"{event['nonfinite']} not finite" if event.get("nonfinite") else ""
    head = f"  step {number(event['step'])}"
    seen = f"{number(event['seen_tokens'])} tokens" if event.get("seen_tokens") is not None else ""
    return "  ".join(part for part in (head, seen, *parts, bits, bad) if part)


def _alert_line(event: Event) -> str:
    advice = f" {event['advice']}" if event.get("advice") else ""
    return f"! {event['severity']}: {event['message']}{advice}"


def _finished_line(event: Event) -> str:
    mark = _MARKS.get(event["state"], "·")
    return f"{mark} {event['state']}" + (f": {event['error']}" if event.get("error") else "")


def _sample_line(event: Event) -> str:
    def short(text: str) -> str:
        flat = " ".join(text.split())
        return flat if len(flat) <= 70 else flat[:69] + "…"

    return f"  “{short(event['prompt'])}” → {short(event['text'])}"


def _layers(event: Event) -> str:
    """Nothing where all layers flip at once."""
    flipped, total = event.get("layers_flipped"), event.get("layers_total")
    return f"in {flipped} of {total} layers " if flipped and flipped != total else ""


_RENDERERS = {
    "run_started": lambda e: f"▸ {e['run']}  (pid {e['pid']} on {e['host']}, {e['device']})",
    "progress": _progress_line,
    "metric": _metric_line,
    "flip": lambda e: (
        f"⚑ activations A{e['from_bits']} → A{e['to_bits']} "
        f"{_layers(e)}at step {number(e['step'])}, {number(e['seen_tokens'])} tokens seen"
    ),
    "checkpoint": lambda e: f"  checkpoint at step {e['step']}: {e['path']} ({size(e['bytes'])})",
    "sample": _sample_line,
    "artifact": lambda e: f"  wrote {e['path']} ({size(e['bytes'])})",
    "alert": _alert_line,
    "log": lambda e: f"  {e['message']}",
    "run_finished": _finished_line,
}
