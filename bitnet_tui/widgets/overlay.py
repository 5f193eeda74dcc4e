"""One chart with a curve for each of several trainings, told apart by colour and by letter."""

from textual.app import ComposeResult
from textual.containers import Vertical

from bitnet_tui.view.compared import CompareView, chart_title, overlay
from bitnet_tui.view.lens import Chart, Lens
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.widgets.chart import ChartTitle, Plot


class OverlayPlot(Plot):
    can_focus = True
    lettered = True


class OverlayPanel(Vertical):
    """The chart below its title. `seen` is what is drawn."""

    seen: RunView = RunView()

    def compose(self) -> ComposeResult:
        yield ChartTitle(classes="chart-title")
        yield OverlayPlot()

    @property
    def plot(self) -> Plot:
        return self.query_one(OverlayPlot)

    def show(self, view: CompareView, chart: Chart, lens: Lens) -> None:
        seen, axis = overlay(view, chart, lens.by)
        cells = max(20, self.content_size.width)
        self.query_one(ChartTitle).tell(chart_title(seen, chart, lens, axis, cells), chart)
        self.seen = seen
        # The plot knows the curves by their letters, whatever they are of.
        self.plot.show(seen, chart, lens, axis)
