"""Draws with plotext: a `Drawing` in, text with ANSI colours out. Imported for the first chart, and nowhere else."""

import re
import threading
from collections.abc import Iterable, Mapping

import plotext

from bitnet_core.results.series import Segment
from bitnet_tui.view.chart import Drawing, PlotColour, lettered, stripes

_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


_TURN_COLUMNS = 3
"""How many columns a curve has at a time where several lie on each other."""
_LETTER_COLUMNS = 12
"""How far the letters of a curve are apart."""
_NO_LETTERS: Mapping[str, str] = {}
_ONE_AT_A_TIME = threading.Lock()


def build(
    drawing: Drawing,
    columns: int,
    rows: int,
    colours: Mapping[str, PlotColour],
    letters: Mapping[str, str] = _NO_LETTERS,
) -> str:
    """Draw at exactly this size. Slow: call it in a thread. A curve in `letters` has its letter every few columns.

    plotext fails on numbers that are not finite and on logarithms of them; a `Drawing` has neither.
    """
    with _ONE_AT_A_TIME:  # plotext has one figure, for all threads
        return _build(drawing, columns, rows, colours, letters)


def canvas(built: str) -> int:
    """The column in which the drawing begins, right of its axis; the number of columns if there is no axis."""
    first = _ESCAPE.sub("", built.split("\n", 1)[0])
    return next((place + 1 for place, sign in enumerate(first) if sign in "┤│"), len(first))


def _build(
    drawing: Drawing, columns: int, rows: int, colours: Mapping[str, PlotColour], letters: Mapping[str, str]
) -> str:
    plotext.clear_figure()
    plotext.limit_size(False, False)
    plotext.plot_size(columns, rows)
    plotext.canvas_color("default")
    plotext.axes_color("default")
    plotext.ticks_color(colours["axis"])
    plotext.xaxes(True, False)
    plotext.yaxes(True, False)
    plotext.xlim(*drawing.x_limits)
    plotext.ylim(*drawing.y_limits)
    plotext.xticks([place for place, _ in drawing.x_ticks], [label for _, label in drawing.x_ticks])
    plotext.yticks([place for place, _ in drawing.y_ticks], [label for _, label in drawing.y_ticks])
    for flip in drawing.flips:
        plotext.vertical_line(flip, colours["flip"])
    low, high = drawing.y_limits
    for seam in drawing.seams:
        heights = [low + (high - low) * row / rows for row in range(rows + 1)]
        plotext.scatter([seam] * len(heights), heights, marker="┆", color=colours["axis"])
    for name, segments in drawing.curves:
        _plot(segments, colours[name])
    # The cell of a crossing has one colour. Where curves lie on each other, they take turns.
    turns, many = max(1, columns // _TURN_COLUMNS), len(drawing.curves)
    for place, (name, segments) in enumerate(drawing.curves if many > 1 else ()):
        _plot(stripes(segments, drawing.x_limits, turns, place, many), colours[name])
    for place, (name, segments) in enumerate(drawing.curves):
        if name in letters:
            points = lettered(segments, drawing.x_limits, max(1, columns // _LETTER_COLUMNS), place / many)
            plotext.scatter(*zip(*points, strict=True), marker=letters[name], color=colours[name])
    if drawing.not_finite:
        bottom = [drawing.y_limits[0]] * len(drawing.not_finite)
        plotext.scatter(list(drawing.not_finite), bottom, marker="x", color=colours["bad"])
    return str(plotext.build())


def _plot(segments: Iterable[Segment], colour: PlotColour) -> None:
    for segment in segments:
        plotext.plot([x for x, _ in segment], [y for _, y in segment], marker="braille", color=colour)
