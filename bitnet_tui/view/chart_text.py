"""The line above a chart: its name, its curves with their newest values, or with those at the crosshair."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby

from bitnet_core.results.curves import SHARES, Curve
from bitnet_core.results.verdict import LETTERS
from bitnet_core.runs.event_words import FLIP, SEAM
from bitnet_core.text import count, crop, pad, scientific, share, significant, size, width
from bitnet_tui.key_names import key
from bitnet_tui.view.lens import AXIS_NAMES, CHARTS, Axis, Chart, Lens, extent, shown_charts, value_at
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.spans import Line, Span, cells_of, spread

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
    **dict.fromkeys(SHARES, share),
    "lr": scientific,
    "tokens_per_s": count,
    "peak_rss_bytes": size,
    "peak_device_bytes": size,
}
BACK, ON = "‹", "›"
HIDDEN = "○"
"""In place of a curve's mark."""
_NONE = "none"
"""For a place where a curve has no value: in a gap, before its first point, or after its last."""
_RESUMED = "resumed"
_ENDS_A_CURVE = ("value", "faint")
"""The styles of what comes last of a curve: its value or, if it is hidden, its name."""
_SHOWS_ALL = " shows all"
_PLACE_CELLS = 10
"""`│ 12.3k`, `│ 12m 05s` or `tokens →`, and a blank before it."""
_UNIT = re.compile(r"^step | tokens$")
_BEFORE_ARROW = re.compile(r" [^ ,]+→")
_ONE_CHANGE = re.compile(r"(?P<name>[^→,;]+) (?P<old>[^ →,;]+)(?: → [^ →,;]+)* → (?P<new>[^ →,;]+)")
"""What is told of a seam with one setting that was changed."""
_LAST, _LEAST_OF_SEVERAL = "last", 16
"""Before the last of several changes, from so many cells on."""


def letter(curve: str) -> str:
    """What stands for a curve of several where there are no colours: the first letter of its name above the chart."""
    return curve if curve in LETTERS else _TITLES[curve][0].upper() if curve in _TITLES else ""


def value_words(figure: str, curve: Curve, chart: Chart, view: RunView, lens: Lens, cells: int) -> str:
    """The newest value of the curve or that at the crosshair, as the figure is written. `cells` is the width.

    Each is as wide as the widest of the curve: what stands behind it moves with no crosshair.
    """
    write = _FORMATS.get(figure, significant)
    values = [value for segment in curve.segments for _, value in segment]
    value: float | None = values[-1]
    widest = max(width(write(one)) for one in (min(values), max(values), values[-1]))
    if lens.cursor is not None:
        near = lens.column(extent(view) or (0.0, 0.0), cells)
        value = value_at(curve.segments, lens.cursor, near, log=lens.log and chart.log)
    return pad(_NONE if value is None else write(value), max(widest, width(_NONE)))


def title(
    chart: Chart, view: RunView, lens: Lens, axis: Axis, cells: int, *, alone: bool, letters: bool = False
) -> Line:
    """One line. It has the signs that turn to other charts when the chart is shown `alone`.

    What does not fit is shortened or left out. With `letters`, each curve is marked with its letter, as where there
    are no colours.
    """

    def marks(room: int) -> list[Line]:
        return _marks(view, lens.cursor, room) if alone or chart is _roomy(view) else []

    forms = [
        _parts(chart, view, lens, gap, cells, alone=alone, letters=letters, named=named)
        for named, gap in ((True, "  "), (True, " "), (False, " "))
    ]
    return laid_out(forms, marks, rights(lens, axis, alone=alone), cells, right_room(lens, alone=alone))


def laid_out(
    forms: Sequence[Sequence[Line]],
    marks: Callable[[int], list[Line]],
    ends: Sequence[Line],
    cells: int,
    kept: int,
) -> Line:
    """The curves in the first of these forms that fits, then what the lines mark, and one of the right ends.

    Where none fits beside the marks, it is the first short one that fits without them.
    The form is chosen with `kept` cells for the right end, so it is the same with and without a crosshair. Curves
    that don't fit beside them are left out, marks that don't fit beside the last of the ends.
    """
    room = cells - kept
    fewest = sum(map(cells_of, marks(0)))
    roomy = (one for one in forms if sum(map(cells_of, one)) + fewest <= room)
    whole = (one for one in forms[1:] if sum(map(cells_of, one)) <= room)
    curves = _fit(next(chain(roomy, whole), forms[-1]), room)
    marked = marks(room - cells_of(curves))
    if cells_of(curves) + sum(map(cells_of, marked)) > room:
        room = cells - cells_of(ends[-1]) - bool(ends[-1])
        marked = marks(room - cells_of(curves))
    left = _fit([curves, *marked], room)
    return spread(left, next((one for one in ends if cells_of(left) + cells_of(one) < cells), ends[-1]), cells)


def rights(lens: Lens, axis: Axis, *, alone: bool, whole: str = "experiment.whole") -> list[Line]:
    """What may stand at the right end, the longest first; the last is shown in any case, and may be empty.

    `whole` is the action that shows all again. The way back from a stretch is last: there it stays,
    whatever the crosshair is at.
    """
    back = _back(lens, whole)
    if lens.cursor is not None:
        at = axis.words(lens.cursor)
        told = [f"│ {at}", f"│ {_UNIT.sub('', at)}"]
        ends = [(Span(words, "accent"), *(Span("  "), *back)[: 2 * len(back)]) for words in told]
        return ends if alone else [*ends, back]
    if lens.window is not None:
        stretch = axis.stretch(*lens.window)
        words = (f"{stretch} · drag moves  ", f"{stretch}  ") if alone else ()
        return [*((Span(one, "accent"), *back) for one in words), back]
    if not alone:
        return [()]
    name = AXIS_NAMES[axis.by]
    zooms = f"{key('experiment.zoom-in')} or wheel zooms"
    named = (
        f"{zooms} · {name}",
        name,
        name.split()[-1 if axis.by == "tokens" else 0],
    )
    return [*((Span(f"{one} →", "faint"),) for one in named), ()]


def right_room(lens: Lens, *, alone: bool, whole: str = "experiment.whole") -> int:
    """How many cells are kept for the right end: for the way back, and alone also for a short place on the axis."""
    back = cells_of(_back(lens, whole))
    return (back + 1 if back else 0) + (_PLACE_CELLS + (1 if back else 0) if alone else 0)


def _back(lens: Lens, whole: str) -> Line:
    return () if lens.window is None else (Span(f"{key(whole)}{_SHOWS_ALL}", "key"),)


def _parts(
    chart: Chart, view: RunView, lens: Lens, gap: str, cells: int, *, alone: bool, letters: bool, named: bool
) -> list[Line]:
    """The chart's name and its curves. If it is not `named`, the names of the loss's curves say what it is."""
    parts: list[Line] = []
    if alone:
        parts.append(turns(chart.title if named or chart is not CHARTS[0] else ""))
    elif chart is not CHARTS[0]:
        parts.append((Span(f"{chart.title}{gap}", "title"),))
    parts += [
        _curve(curve, chart, lens, gap, value_words(curve.name, curve, chart, view, lens, cells), letters=letters)
        for curve in view.curves
        if curve.name in chart.curves and curve.segments
    ]
    if lens.smooth and (alone or chart is CHARTS[0]):
        parts.append((Span(f"smoothed{gap}", "accent"),))
    return parts


def turns(name: str) -> Line:
    """A chart's name between the signs that turn to the one before and the next, each with the blanks beside it."""
    if not name:
        return Span(BACK, "key"), Span(f"{ON} ", "key")
    return Span(f"{BACK} ", "key"), Span(name, "title"), Span(f" {ON} ", "key")


def _roomy(view: RunView) -> Chart:
    """Of several charts, the one whose title says what the lines mark: the second, as the first names many curves."""
    return [CHARTS[0], *shown_charts(view)[:2]][-1]


def _curve(curve: Curve, chart: Chart, lens: Lens, gap: str, words: str, *, letters: bool) -> Line:
    label = f"{_TITLES[curve.name]} " if len(chart.curves) > 1 else ""
    if curve.name not in lens.drawn(chart):
        return Span(f"{HIDDEN} ", f"curve-{curve.name}"), Span(f"{label.rstrip()}{gap}", "faint")
    mark = letter(curve.name) if letters and len(chart.curves) > 1 else "━"
    return Span(f"{mark} ", f"curve-{curve.name}"), Span(label, "label"), Span(f"{words}{gap}", "value")


def legend(chart: Chart, view: RunView) -> list[tuple[str, str]]:
    """The curves of a chart that can be hidden, with their names; none where there is only one."""
    drawn = [curve.name for curve in view.curves if curve.name in chart.curves and curve.segments]
    return [(name, _TITLES.get(name, name)) for name in drawn] if len(drawn) > 1 else []


def _marks(view: RunView, cursor: float | None, cells: int) -> list[Line]:
    """What the vertical lines mark: what was changed at each seam or, with a cursor, at the last one before it.

    It is shortened to the cells that there are: `║ LR 5e-5 → 3e-4 ║ LR 3e-4 → 1e-4`, `║ LR 5e-5 → 3e-4 → 1e-4`, then
    what was changed at the last one, and in the end that the training was resumed.
    """
    marks: list[Line] = []
    if view.flip:
        marks.append((Span(f"{FLIP} A{view.flip.from_bits}→A{view.flip.to_bits}", "flip"),))
    if view.seams:
        before = [turn for x, turn in zip(view.seams, view.turns, strict=False) if cursor is None or x <= cursor]
        gap = "  " if view.flip else ""
        told = _seams(before if cursor is None else before[-1:], cells - sum(map(cells_of, marks)) - width(gap))
        marks.append((Span(f"{gap}{told}", "label"),))
    return marks


def _seams(turns: Sequence[str], cells: int) -> str:
    """What was changed at the seams, in so many cells; for too few, that there was one."""
    if len(turns) > 1:
        each, chained = _in_order(turns, chained=False), _in_order(turns, chained=True)
        whole = next((one for one in (each, chained, chained.replace(" → ", "→")) if width(one) <= cells), "")
        if whole:
            return whole
    of_several = f"{_LAST} " if len(turns) > 1 and cells >= _LEAST_OF_SEVERAL else ""
    lead = f"{of_several}{SEAM} "
    words = _shortened(turns[-1], cells - width(lead)) if turns else ""
    return f"{lead}{words or _RESUMED}"


def _in_order(turns: Sequence[str], *, chained: bool) -> str:
    """Each seam's sign with what was changed there. If `chained`, a setting is named once."""
    told: list[str] = []
    for turn, same in groupby(turns):
        one, times = _ONE_CHANGE.fullmatch(turn), len(list(same))
        before = _ONE_CHANGE.fullmatch(told[-1]) if told else None
        if chained and one and before and (one["name"], one["old"]) == (before["name"], before["new"]):
            told[-1] += f" → {one['new']}"
        else:
            told.append((turn or _RESUMED) + (f" {times}×" if times > 1 else ""))
    return " ".join(f"{SEAM} {one}" for one in told)


def _shortened(change: str, cells: int) -> str:
    """What was changed, in `cells` cells; empty if they are too few."""
    near = change.replace(" → ", "→")
    newest = _BEFORE_ARROW.sub("→", near)
    fitting = next((one for one in (change, near, newest) if width(one) <= cells), "")
    return fitting or (crop(newest, cells) if cells > width(_RESUMED) else "")


def turned(shown: Line, at: int) -> int | None:
    """What a click on a cell is for: -1 or 1 to turn to another chart, 0 for its name, or nothing."""
    for span, _ in _at(shown, at):
        if span.style == "title":
            return 0
        if span.style == "key" and span.text.strip() in (BACK, ON):
            return -1 if BACK in span.text else 1
    return None


def shows_all(shown: Line, at: int) -> bool:
    """Whether a click on a cell is for all of the run."""
    return any(span.style == "key" and span.text.endswith(_SHOWS_ALL) for span, _ in _at(shown, at))


def toggled(shown: Line, at: int) -> str | None:
    """The curve that a click on a cell is about: its mark, name or value is there, and there are several."""
    if sum(span.style.startswith("curve-") for span in shown) < 2:
        return None
    return next((curve or None for _, curve in _at(shown, at)), None)


def _at(shown: Line, at: int) -> Iterator[tuple[Span, str]]:
    """What a cell shows, and the curve that it belongs to, if any."""
    left, curve = 0, ""
    for span in shown:
        if span.style.startswith("curve-"):
            curve = span.style.removeprefix("curve-")
        elif span.style not in ("label", *_ENDS_A_CURVE):
            curve = ""
        if left <= at < left + width(span.text):
            yield span, curve
        left += width(span.text)
        curve = "" if span.style in _ENDS_A_CURVE else curve


def _fit(parts: Sequence[Line], cells: int) -> Line:
    """As many of the parts, from the first on, as fit into the cells."""
    while len(parts) > 1 and cells_of([span for part in parts for span in part]) > cells:
        parts = parts[:-1]
    return tuple(span for part in parts for span in part)
