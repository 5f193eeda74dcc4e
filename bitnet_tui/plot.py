"""Draws with plotext: a `Drawing` in, text with ANSI colours out. Imported for the first chart, and nowhere else."""

from collections.abc import Mapping

import plotext

from bitnet_tui.view.chart import Drawing

Colour = tuple[int, int, int]


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
    # The total is drawn last, so that it stays whole where curves cross.
    for name, segments in reversed(drawing.curves):
        for segment in segments:
            plotext.plot([x for x, _ in segment], [y for _, y in segment], marker="braille", color=colours[name])
    if drawing.not_finite:
        bottom = [drawing.y_limits[0]] * len(drawing.not_finite)
        plotext.scatter(list(drawing.not_finite), bottom, marker="x", color=colours["bad"])
    return str(plotext.build())
