"""The charts of a run: as many as there is room for on a wide screen, one on others."""

from textual import events
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message

from bitnet_tui.view.lens import CHARTS, Axis, Chart, Lens, chart_named, shown_charts
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.widgets.chart import ChartPanel

GRID_FROM = 140
"""The columns of the app from which there is a grid."""
_LEAST_CELLS, _LEAST_LINES = 44, 9


class Charts(Container):
    """Draws what a lens looks at."""

    _view: RunView = RunView()
    _lens: Lens = Lens()
    _laid_out: tuple[int, int] = (0, 0)

    class Resized(Message):
        """Another number of charts may fit."""

    def compose(self) -> ComposeResult:
        for place in range(len(CHARTS)):
            yield ChartPanel(focusable=place == 0)

    def on_resize(self, _: events.Resize) -> None:
        self.show(self._view, self._lens)

    @property
    def column_share(self) -> float:
        """Of the first chart."""
        return self.query(ChartPanel).first().plot.column_share

    def show(self, view: RunView, lens: Lens) -> None:
        """While another tab is open they stay as they are: they have no size to be drawn for until they are shown."""
        self._view, self._lens = view, lens
        if self._laid_out != (0, 0) and not self.size:
            return
        charts, across = self._chosen()
        down = -(-len(charts) // across)
        if (across, down) != self._laid_out:
            self._laid_out = (across, down)
            self.styles.grid_size_columns, self.styles.grid_size_rows = across, down
        axis = Axis.of(view, lens.by)
        panels = self.query(ChartPanel)
        panels.first().styles.column_span = 1 + across * down - len(charts)  # no cell of the grid is empty
        for place, panel in enumerate(panels):
            panel.display = place < len(charts)
            if place < len(charts):
                panel.show(view, charts[place], lens, axis, alone=len(charts) == 1)

    def _chosen(self) -> tuple[list[Chart], int]:
        """The charts to draw, and how many there are beside each other."""
        if self._lens.chart is not None or self.app.size.width < GRID_FROM:
            return [chart_named(self._lens.chart, self._view)], 1
        across = max(1, self.size.width // _LEAST_CELLS)
        fitting = max(1, across * (self.size.height // _LEAST_LINES))
        charts = shown_charts(self._view)[:fitting] or [CHARTS[0]]
        return charts, min(across, _even(len(charts), across))


def _even(number: int, most: int) -> int:
    """How many beside each other make the fewest rows, and so the highest charts; of these, the widest."""
    return min(range(1, most + 1), key=lambda across: (-(-number // across), across))
