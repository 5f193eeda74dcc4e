"""What keys and mouse do with the charts of a screen: which one, which stretch, by what, and the crosshair."""

from dataclasses import replace

from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.view.chart_text import HIDDEN, legend
from bitnet_tui.view.lens import Lens, extent
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.widgets.chart import Dragged, Plot, Pointed, Toggled, Turned, Zoomed
from bitnet_tui.widgets.charts import GRID_FROM

_ZOOM, _PAN = 2.0, 0.25


class ChartingScreen(ShellScreen[None]):
    """Holds the lens through which the charts are seen."""

    lens = Lens()
    _by_mouse = False
    """Whether the crosshair follows the mouse, and goes with it."""

    @property
    def charted(self) -> RunView:
        """The run whose curves are drawn."""
        raise NotImplementedError

    @property
    def column_share(self) -> float:
        """The share of what is looked at that a column shows."""
        raise NotImplementedError

    @property
    def in_grid(self) -> bool:
        """Whether several charts can be shown at once."""
        return self.app.size.width >= GRID_FROM

    def draw_charts(self) -> None:
        raise NotImplementedError

    def look_through(self, lens: Lens) -> None:
        if lens != self.lens:
            self.lens = lens
            self.draw_charts()

    def action_log_scale(self) -> None:
        self.look_through(replace(self.lens, log=not self.lens.log))

    def action_curve(self, by: int) -> None:
        self.look_through(self.lens.next_chart(self.charted, by, grid=self.in_grid))

    def action_axis(self) -> None:
        self.look_through(self.lens.next_axis())

    def action_smooth(self) -> None:
        self.look_through(self.lens.smoother())

    def action_curves(self) -> None:
        """Ask which curve to hide or to show again."""
        from bitnet_tui.screens.picking import PickScreen

        charts = [one.chart for one in self.query(Plot) if one.parent is not None and one.parent.display]
        found = [(chart, *one) for chart in charts for one in legend(chart, self.charted)]
        entries = [f"{'━' if name in self.lens.drawn(chart) else HIDDEN} {label}" for chart, name, label in found]

        def answered(place: int | None) -> None:
            if place is not None and self.on_stack:
                self.look_through(self.lens.toggled(found[place][1]))

        if found:
            self.app.push_screen(PickScreen("Show or hide a curve", entries), answered)
        else:
            self.notify("There is one curve here.")

    def action_whole(self) -> None:
        self.look_through(self.lens.whole())

    def action_chart_zoom(self, by: int) -> None:
        if (all_of_it := extent(self.charted)) is not None:
            self.look_through(self.lens.zoomed(all_of_it, _ZOOM**by))

    def action_chart_move(self, by: int) -> None:
        """The crosshair by one column; without one, what is shown by a quarter."""
        if (all_of_it := extent(self.charted)) is None:
            return
        if self.lens.cursor is None:
            self.look_through(self.lens.panned(all_of_it, _PAN * by))
        else:
            self._by_mouse = False
            self.look_through(self.lens.pointed(all_of_it, by * self.column_share))

    def action_crosshair(self) -> None:
        """Show it, or take it away."""
        all_of_it = extent(self.charted)
        if self.lens.cursor is None and all_of_it is not None:
            self._by_mouse = False
            self.look_through(self.lens.pointed(all_of_it, 0))
        else:
            self.look_through(replace(self.lens, cursor=None))

    def on_pointed(self, message: Pointed) -> None:
        if message.seen is not None:
            self._by_mouse = True
            self.look_through(replace(self.lens, cursor=message.seen))
        elif self._by_mouse:
            self._by_mouse = False
            self.look_through(replace(self.lens, cursor=None))

    def on_zoomed(self, message: Zoomed) -> None:
        if (all_of_it := extent(self.charted)) is not None:
            self.look_through(self.lens.zoomed(all_of_it, message.factor, message.seen))

    def on_dragged(self, message: Dragged) -> None:
        if (all_of_it := extent(self.charted)) is not None:
            self.look_through(self.lens.panned(all_of_it, -message.share))

    def on_toggled(self, message: Toggled) -> None:
        curve, chart = message.curve, message.chart
        self.look_through(self.lens.only(curve, chart) if message.only else self.lens.toggled(curve))

    def on_turned(self, message: Turned) -> None:
        if isinstance(message.to, str):
            self.look_through(replace(self.lens, chart=message.to))
        elif message.to or not self.in_grid:
            self.action_curve(message.to or 1)
        else:
            self.look_through(replace(self.lens, chart=None))
