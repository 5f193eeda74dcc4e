"""Draws with plotext: a `Drawing` in, text with ANSI colours out. Imported for the first chart, and nowhere else."""

from collections.abc import Iterable, Mapping

import plotext

from bitnet_tui.view.chart import Drawing, stripes
from bitnet_tui.view.series import Segment

Colour = tuple[int, int, int]


_TURN_COLUMNS = 3
"""How many columns a curve has at a time where several lie on each other."""


def build(drawing: Drawing, columns: int, rows: int, colours: Mapping[str, Colour]) -> str:
    """Draw at exactly this size. plotext keeps one global figure, so it is cleared first.

    plotext fails on numbers that are not finite and on logarithms of them; a `Drawing` has neither.
    """
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
    if drawing.flip_at is not None:
        plotext.vertical_line(drawing.flip_at, colours["flip"])
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
    if drawing.not_finite:
        bottom = [drawing.y_limits[0]] * len(drawing.not_finite)
        plotext.scatter(list(drawing.not_finite), bottom, marker="x", color=colours["bad"])
    return str(plotext.build())


def _plot(segments: Iterable[Segment], colour: Colour) -> None:
    for segment in segments:
        plotext.plot([x for x, _ in segment], [y for _, y in segment], marker="braille", color=colour)
