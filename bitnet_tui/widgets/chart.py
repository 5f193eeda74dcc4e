"""The loss chart. plotext redraws it only when its data, its size or the theme has changed."""

from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

from bitnet_tui.theme import plot_colours
from bitnet_tui.view.chart import drawing
from bitnet_tui.view.run_fold import RunView

_LEAST_COLUMNS, _LEAST_ROWS = 24, 6


class Chart(Widget):
    """Draws the curves of a run, or of a training over all its runs."""

    _view: RunView = RunView()
    _shown: tuple[str, ...] = ()
    _log = False
    _key: tuple[object, ...] = ()
    _built: Text = Text()

    def show(self, view: RunView, shown: tuple[str, ...], *, log: bool) -> None:
        before = self._view
        changed = (view.curves, view.seams, view.flip) != (before.curves, before.seams, before.flip)
        if changed or (shown, log) != (self._shown, self._log):
            self._view, self._shown, self._log = view, shown, log
            self.refresh()

    def render(self) -> RenderResult:
        columns, rows = self.content_size
        key = (id(self._view), self._shown, self._log, columns, rows, self.app.theme)
        if key != self._key:
            self._key = key
            self._built = self._build(columns, rows)
        return self._built

    def _build(self, columns: int, rows: int) -> Text:
        if columns < _LEAST_COLUMNS or rows < _LEAST_ROWS:
            return Text("no room for a chart")
        picture = drawing(self._view, self._shown, columns, rows, log=self._log)
        if picture is None:
            return Text("\n  Curves appear with the first metrics.", style="dim")
        from bitnet_tui.plot import build  # imports plotext, which is not needed before there is something to draw

        return Text.from_ansi(build(picture, columns, rows, plot_colours(self.app.theme_variables)), no_wrap=True)
