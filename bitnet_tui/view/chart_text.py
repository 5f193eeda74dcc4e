"""The line above a chart: its name, its curves with their newest values, or with those at the crosshair."""

from collections.abc import Callable, Sequence

from bitnet_core.text import UNKNOWN, count, scientific, significant, size, width
from bitnet_tui.view.lens import ALONE, AXIS_NAMES, CHARTS, Axis, Chart, Lens, value_at
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.spans import Line, Span, spread

_TITLES = {
    "loss": "total",
    "kl": "KL",
    "ce": "CE",
    "format": "format",
    "agreement": "training",
    "heldout_agreement": "held-out",
    "peak_rss_bytes": "process",
    "peak_device_bytes": "device",
}
_FORMATS: dict[str, Callable[[float | None], str]] = {
    "lr": scientific,
    "tokens_per_s": count,
    "peak_rss_bytes": size,
    "peak_device_bytes": size,
}
BACK, ON = "‹", "›"


def title(chart: Chart, view: RunView, lens: Lens, axis: Axis, cells: int, *, alone: bool) -> Line:
    """One line. Signs to turn to other charts are there when it is shown `alone`; what does not fit is left out."""
    drawn = {curve.name: curve for curve in view.curves if curve.name in chart.curves and curve.segments}
    several = len(chart.curves) > 1
    parts: list[Span] = []
    if alone:
        name = "" if chart is CHARTS[0] else f" {chart.title} "
        parts = [Span(BACK, "key"), Span(name, "title"), Span(ON, "key"), Span(" ")]
    elif chart is not CHARTS[0]:  # the names of its curves say it
        parts = [Span(f"{chart.title}  ", "title")]
    for name, curve in drawn.items():
        value = curve.segments[-1][-1][1] if lens.cursor is None else value_at(curve.segments, lens.cursor)
        words = _FORMATS.get(name, significant)(value) if value is not None else UNKNOWN
        label = f"{_TITLES[name]} " if several else ""
        parts += [Span("━ ", f"curve-{name}"), Span(label, "label"), Span(f"{words}  ", "value")]
    marked = alone or chart is CHARTS[0]
    if view.flip and marked:
        parts.append(Span(f"┊ A{view.flip.from_bits}→A{view.flip.to_bits}", "flip"))
    if view.seams and marked:
        parts.append(Span("  ┆ resumed" if view.flip else "┆ resumed", "label"))
    right = [Span(f"{AXIS_NAMES[axis.by]} →", "faint")] if alone else []
    if lens.cursor is not None:
        at = f"│ {axis.words(lens.cursor)}"
        parts, right = [Span(f"{at}  ", "accent"), *parts] if not alone else parts, [Span(at, "accent")]
        while alone and len(parts) > 4 and _cells(parts) + width(at) >= cells:
            parts = parts[:-1]
        right = right if alone else []
    elif lens.window is not None and alone:
        ends = " – ".join(axis.words(end) for end in lens.window)
        right = [Span(f"{ends}  0 shows all", "accent")]
    return spread(_fit(parts, cells), right, cells)


def turned(shown: Line, at: int) -> int | str | None:
    """What a click on a cell of the line is for: -1 or 1 to turn, the name of a curve's own chart, or nothing."""
    left, curve = 0, ""
    for span in shown:
        curve = span.style.removeprefix("curve-") if span.style.startswith("curve-") else curve
        if left <= at < left + width(span.text):
            if span.style == "key":
                return -1 if BACK in span.text else 1
            own = next((one.name for one in ALONE if one.curves == (curve,)), None)
            return own if span.style in (f"curve-{curve}", "label", "value") else None
        left += width(span.text)
    return None


def _cells(parts: Sequence[Span]) -> int:
    return sum(width(span.text) for span in parts)


def _fit(parts: Sequence[Span], cells: int) -> Sequence[Span]:
    while len(parts) > 1 and _cells(parts) > cells:
        parts = parts[:-1]
    return parts
