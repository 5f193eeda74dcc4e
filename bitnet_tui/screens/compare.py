"""Two to eight experiments or runs: one sentence on which is better, their curves, figures and settings."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from textual.containers import Vertical, VerticalScroll
from textual.widget import Widget

from bitnet_core.results.verdict import LETTERS
from bitnet_tui import bindings
from bitnet_tui.screens.base import LookingScreen
from bitnet_tui.screens.charting import ChartingScreen
from bitnet_tui.view import compared
from bitnet_tui.view.compared import Chosen, CompareView, CompareWatcher
from bitnet_tui.view.lens import Chart
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.spans import Line, Span, cells_of, line
from bitnet_tui.widgets.overlay import OverlayPanel
from bitnet_tui.widgets.painted import Painted

_LOOK_SECONDS = 1.0
_IDLE_EVERY = 5
_SAID_SHARE = 5
"""What is better has a fifth of the rows above the chart. What does not fit there whole is told above the reasons."""


class _Tables(VerticalScroll, inherit_bindings=False):
    """Has no keys of its own: those of the screen scroll it, and its foot names them."""


class CompareScreen(LookingScreen[CompareView], ChartingScreen):
    """Looks again every second while one of the trainings is at work, else less often."""

    CSS_PATH = "compare.tcss"
    BINDINGS = bindings.of("compare")

    def __init__(self, chosen: Sequence[Chosen]) -> None:
        super().__init__()
        self._chosen = tuple(chosen)
        self._view: CompareView | None = None
        self._ticks = 0
        self._scrolled = False

    def head(self) -> Line:
        cells = max(20, self.app.size.width - 14)
        names = compared.names_line(self._view, cells) if self._view else ()
        return line(Span("Compare   ", "title"), *names)

    @property
    def title_cells(self) -> int:
        return cells_of(self.head())

    def skeleton(self) -> Iterable[Widget]:
        yield Vertical(id="compared")

    async def furnish(self) -> None:
        self._watcher = CompareWatcher(self._chosen, self.shell.home)
        await self.query_one("#compared").mount(
            Painted(id="sentence"),
            OverlayPanel(id="overlay"),
            _Tables(Painted(id="tables"), id="table-scroll"),
        )

    @property
    def complete(self) -> bool:
        return super().complete and self._view is not None

    def begin(self) -> None:
        super().begin()
        self.query_one(_Tables).focus()
        self.set_interval(_LOOK_SECONDS, self._tick)
        self.look()

    def _tick(self) -> None:
        self._ticks += 1
        if self.in_sight and ((self._view and self._view.active) or self._ticks % _IDLE_EVERY == 0):
            self.look()

    def looker(self) -> Callable[[], CompareView]:
        return self._watcher.look

    def draw(self, view: CompareView) -> None:
        first, self._view = self._view is None, view
        self.query_one("#head", Painted).show((self.head(),))
        room = self.query_one("#compared").content_size
        cells = max(24, room.width)
        tables = compared.table_lines(view, cells - 2)
        most = room.height if view.comparison is None else max(1, room.height // _SAID_SHARE)
        above, below = compared.sentence_lines(view, cells, most)
        if told := (*below, *compared.reason_lines(view, cells - 2)):
            tables = (*told, (), *tables)
        sentence = self.query_one("#sentence", Painted)
        sentence.show(above)
        sentence.display = bool(above)
        self.query_one("#tables", Painted).show(tables)
        self.query_one("#compared").set_class(view.comparison is None, "-nothing")
        self.draw_charts()
        if first:
            self.refresh_bindings()
        self.call_after_refresh(self._scroll_noticed)

    def on_resize(self) -> None:
        if self.on_stack and self._view is not None and not self.too_small:
            self.call_after_refresh(self.draw, self._view)

    # -- the chart -------------------------------------------------------------------------------------------------

    @property
    def _panel(self) -> OverlayPanel:
        return self.query_one("#overlay", OverlayPanel)

    @property
    def in_grid(self) -> bool:
        return False

    @property
    def charted(self) -> RunView:
        return self._panel.seen

    @property
    def column_share(self) -> float:
        return self._panel.plot.column_share

    def draw_charts(self) -> None:
        if self._view is not None and self.query("#overlay"):
            self._panel.show(self._view, self._chart(), self.lens)

    def _chart(self) -> Chart:
        charts = self._view.charts() if self._view else []
        return next((one for one in charts if one.name == self.lens.chart), charts[0])

    def action_curve(self, by: int) -> None:
        names = [one.name for one in self._view.charts()] if self._view else []
        if names:
            place = names.index(self._chart().name)
            self.look_through(replace(self.lens, chart=names[(place + by) % len(names)]))

    def action_axis(self) -> None:
        """Along another axis a place is another number."""
        self.look_through(self.lens.next_axis().whole())

    # -- below it, and what was compared ---------------------------------------------------------------------------

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Where all is in sight, nothing scrolls, and the line of keys does not say so."""
        if action == "scroll" and self.complete and not self._scrolls:
            return False
        return super().check_action(action, parameters)

    @property
    def _scrolls(self) -> bool:
        return self.query_one(_Tables).max_scroll_y > 0

    def _scroll_noticed(self) -> None:
        if self.on_stack and self._scrolls is not self._scrolled:
            self._scrolled = self._scrolls
            self.refresh_bindings()

    def action_open(self, letter: str = "") -> None:
        """Open that one, or ask which."""
        found = self._view.comparison if self._view else None
        subjects = dict(zip(LETTERS, found.subjects if found else (), strict=False))
        if letter in subjects:
            one = subjects[letter]
            self.shell.open_experiment(one.root, at=compared.unevaluated(one) or None)
            return
        from bitnet_tui.screens.picking import PickScreen

        entries = [compared.entry(name, one) for name, one in subjects.items()]

        def answered(place: int | None) -> None:
            if place is not None and self.on_stack:
                self.action_open(list(subjects)[place])

        if entries:
            self.app.push_screen(PickScreen("Open", entries), answered)

    def action_scroll(self, way: str) -> None:
        getattr(self.query_one("#table-scroll"), f"scroll_{way}")(animate=False)
