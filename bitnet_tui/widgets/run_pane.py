"""Everything about one run: title, tabs, and below them its alerts, gauge and figures, and what the open tab has."""

import asyncio
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import cast

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Tab, Tabs

from bitnet_core.runs.catalog import stage
from bitnet_tui import actions, key_names
from bitnet_tui.shell import Shell
from bitnet_tui.view import panels
from bitnet_tui.view.above import above
from bitnet_tui.view.coming import coming
from bitnet_tui.view.copy import CopyView, Said, copy_lines, folder_lines, said_lines
from bitnet_tui.view.gauge import gauge
from bitnet_tui.view.lens import Lens
from bitnet_tui.view.run_fold import RunView
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.view.stored import Tree, tree_lines
from bitnet_tui.view.watch import ExperimentView, RunShown
from bitnet_tui.widgets.charts import Charts
from bitnet_tui.widgets.checkpoints_pane import CheckpointsPane
from bitnet_tui.widgets.config_pane import ConfigPane
from bitnet_tui.widgets.log_pane import LogPane
from bitnet_tui.widgets.looking import Looking
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.reports_pane import ReportsPane
from bitnet_tui.widgets.storage_pane import StoragePane
from bitnet_tui.widgets.traces_pane import TracesPane

VIEWS = ("live", "traces", "reports", "checkpoints", "storage", "config", "log")
"""The id of each tab, which is also that of the action that opens it."""
_ALONE = frozenset({"checkpoints", "config", "log", "storage", "traces"})
"""Tabs that are about the experiment rather than the run, and need its room."""
_OF_THE_RUN = "#health, #alerts, #gauge, #figures"
_READING = {"traces": TracesPane, "reports": ReportsPane, "checkpoints": CheckpointsPane, "config": ConfigPane}
"""What is in the tabs that read the experiment's files."""
_TAB_GAP = 2
_ROWS_OF_NAMES = 2
"""The title and the names of the tabs."""
_LEAST_ROWS = 6
"""Those of the open tab, which the texts above it leave free: a chart needs them."""
_TAIL_LINES = 5
_MOST_TURNS = 20
"""Of the event loop, for a new tab to take its size: two or three do."""
_LOOK_SECONDS = 0.9
"""How often a tab that is open reads its files again."""


class RunPane(Vertical):
    """Draws an `ExperimentView`. What is in a tab is made when it is first opened."""

    _drawn_at = Size()
    _looked = 0.0

    def __init__(self, home: Path, root: Path) -> None:
        super().__init__(id="run")
        self._home, self._root = home, root
        self._view = ExperimentView(root)
        self._launching: str | None = None
        self._said: Said | None = None
        self._tree: Tree | None = None
        self._made: dict[str, Widget] = {}
        """Of each tab that was opened, what is in it."""
        self._opening = asyncio.Lock()

    def compose(self) -> ComposeResult:
        yield Painted(id="title")
        # Above all that comes and goes with the tab and the run's state, they stay where they are.
        yield Tabs(*(Tab(_tab_words(name), id=f"tab-{name}") for name in VIEWS), id="views")
        yield Painted(id="health", classes="-empty")
        yield Painted(id="alerts", classes="-empty")
        yield Painted(id="gauge")
        yield Painted(id="figures", classes="-empty")
        with ContentSwitcher(initial="live", id="switch"), Vertical(id="live"):
            yield Charts(id="charts")
            with VerticalScroll(id="summary-scroll", classes="pages"):
                yield Painted(id="summary")
            yield Painted(id="tail", classes="-empty")

    def on_mount(self) -> None:
        cast("Shell", self.app).keymap_signal.subscribe(self, lambda _: self._relabel())

    def on_unmount(self) -> None:
        cast("Shell", self.app).keymap_signal.unsubscribe(self)

    def _relabel(self) -> None:
        """The user's keys were read, or the width has changed: where keys and names don't fit, names alone stay."""
        full = [_tab_words(name) for name in VIEWS]
        fits = sum(one.cell_length + _TAB_GAP for one in full) <= self.content_size.width
        for name, words in zip(VIEWS, full, strict=True):
            tab, label = self.query_one(f"#tab-{name}", Tab), words if fits else words[words.plain.index(" ") + 1 :]
            if tab.label.plain != label.plain:
                tab.label = label

    class Resized(Message):
        """The lines were made for another size."""

    class Opened(Message):
        """Another tab is open."""

    def on_resize(self) -> None:
        self._relabel()
        if self.content_size != self._drawn_at:
            self.post_message(self.Resized())

    @property
    def open(self) -> str:
        """The id of the tab that is open."""
        return self.query_one("#switch", ContentSwitcher).current or "live"

    @property
    def turning(self) -> bool:
        """Whether another tab was chosen, and is not open yet."""
        return self.query_one("#views", Tabs).active != f"tab-{self.open}"

    async def choose(self, name: str) -> None:
        """Open a tab. One with a list or a field to begin with gets the focus, which else goes back to the stages."""
        inside = self.query_one("#switch").has_focus_within
        self.query_one("#views", Tabs).active = f"tab-{name}"
        if name == self.open:
            self._look(name)
        else:
            await self._open(name)
        pane = self._made.get(name)
        if isinstance(pane, CheckpointsPane | ConfigPane | LogPane | StoragePane | TracesPane):
            pane.enter()
        if inside and not (pane is not None and pane.has_focus_within):
            self.screen.query_one("#stages").focus()

    async def _open(self, name: str) -> None:
        async with self._opening:  # a key and a click may ask for the same
            if name == self.open:
                return
            with self.app.batch_update():  # else it is drawn half made, three times, before what it shows is seen
                if not await self._turn_to(name):
                    return  # the screen was closed meanwhile
        self._look(name)
        self.screen.refresh_bindings()
        self.post_message(self.Opened())

    async def _turn_to(self, name: str) -> bool:
        """Have another tab in the place of the one that is open, made and laid out, and not drawn yet."""
        switch = self.query_one("#switch", ContentSwitcher)
        new = name != "live" and name not in self._made
        if new:
            pane = self._make(name)
            pane.display = False
            await switch.mount(pane)
            if not (pane.is_mounted and self.is_attached):
                return False
            self._made[name] = pane
            self._tell(pane)
        switch.current = name
        if self._view.run is not None:
            self._draw_above()
        for part in self.query(_OF_THE_RUN):  # a class of this pane would have every widget in it styled again
            part.set_class(name in _ALONE, "-beside")
        if new:
            await self._lay_out(pane)
        return self.is_attached

    async def _lay_out(self, pane: Widget) -> None:
        """Give a new tab its size, and it the time to fill itself, before the first drawing."""
        self.screen._refresh_layout()
        for _ in range(_MOST_TURNS):
            if not any(one.message_queue_size for one in pane.walk_children(with_self=True)):
                break
            await asyncio.sleep(0)
        self.screen._layout_required = True

    def _make(self, name: str) -> Widget:
        if name == "storage":
            return StoragePane(id=name)
        return LogPane(self._root) if name == "log" else _READING[name](self._home, self._root)

    def _tell(self, pane: Widget) -> None:
        """Have a tab show what is known."""
        view = self._view
        match pane:
            case ReportsPane() | LogPane():
                pane.show(view.run)
            case TracesPane():
                pane.tell_coming(coming(view.rows, "collect", launching=self._launching))
            case CheckpointsPane():
                pane.tell_coming(coming(view.rows, "train", launching=self._launching))
            case ConfigPane():
                pane.show_runs(frozenset(row.run_id or "" for row in view.rows if row.active))
            case StoragePane() if self._tree is not None:
                cells = max(20, self.content_size.width) - 2
                pane.show(
                    view.copy,
                    (
                        *said_lines(self._said, cells),
                        *folder_lines(self._root, cells),
                        *copy_lines(view.copy, cells),
                        *tree_lines(self._tree, cells),
                    ),
                    self._tree,
                )

    def _look(self, name: str) -> None:
        """Have a tab that reads files itself read them."""
        if isinstance(pane := self._made.get(name), Looking | TracesPane):
            self._looked = monotonic()
            pane.look()

    def scroll(self, way: str) -> None:
        """Scroll what can be scrolled of the open view: `page_up`, `page_down`, `home` or `end`."""
        for one in self.query(".pages"):
            if one.region:
                getattr(one, f"scroll_{way}")(animate=False)

    async def on_tabs_tab_activated(self) -> None:
        """Open the tab that is chosen by now: another one may have been, since this was sent."""
        await self._open(self.query_one("#views", Tabs).active.removeprefix("tab-"))

    def show(self, view: ExperimentView, lens: Lens, *, launching: str | None, stopping: bool) -> None:
        """Draw the view; parts that did not change are left alone."""
        self._view, self._launching, self._drawn_at = view, launching, self.content_size
        cells = max(20, self._drawn_at.width)
        self.set_class(bool(view.problem) and not view.rows, "-gone")
        self._painted("title", (panels.title(view, cells, stopping=stopping),))
        self._draw_above()
        self._live(view, view.run, lens, cells, launching)
        for pane in self._made.values():
            self._tell(pane)
        self.keep_up()

    def keep_up(self) -> None:
        """Have the open tab read its files again, if it last did so a while ago."""
        if monotonic() - self._looked > _LOOK_SECONDS:
            self._look(self.open)

    def _draw_above(self) -> None:
        """What stands above the open tab."""
        cells = max(20, self._drawn_at.width)
        bar = _bar(self._view.run, self._launching, cells)
        rows = self._drawn_at.height - _ROWS_OF_NAMES - bool(bar) - _LEAST_ROWS
        parts = above(self._view, cells, rows, self.open)
        self._painted("health", parts.health)
        self._painted("alerts", parts.alerts)
        self._painted("gauge", (bar,) if bar else ())
        self._painted("figures", parts.figures)

    @property
    def charts(self) -> Charts:
        return self.query_one("#charts", Charts)

    def _live(
        self, view: ExperimentView, run: RunShown | None, lens: Lens, cells: int, launching: str | None
    ) -> None:
        seen = run.view if run else RunView()
        self.query_one("#live").set_class(seen.charted, "-charted")
        if seen.charted:
            self.charts.show(seen, lens)
        else:
            self._painted("summary", panels.summary(view, cells - 2, launching))
        self._painted("tail", panels.log_tail(run, _TAIL_LINES, cells))

    def show_storage(self, copy: CopyView, said: Said | None, tree: Tree) -> None:
        self._view, self._said, self._tree = replace(self._view, copy=copy), said, tree
        if "storage" in self._made:
            self._tell(self._made["storage"])

    def _painted(self, name: str, lines: tuple[Line, ...]) -> None:
        self.query_one(f"#{name}", Painted).show(lines)


def _tab_words(name: str) -> Content:
    """`1 Live`: the key that opens a tab, and its name."""
    return Content(f"{key_names.key(f'experiment.{name}')} {actions.by_id(f'experiment.{name}').label}")


def _bar(run: RunShown | None, launching: str | None, cells: int) -> Line:
    if launching is not None:
        return line(Span(f"◦ starting {stage(launching).title.lower()}…", "accent"))
    return gauge(run, cells) if run is not None else ()
