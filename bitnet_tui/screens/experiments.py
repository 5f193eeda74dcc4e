"""The home of the app: a table of experiments that follows what runs, to sort, filter and mark."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from textual.containers import Container
from textual.widget import Widget
from textual.widgets import Input

from bitnet_tui import bindings, key_names
from bitnet_tui.loading import HOME, load
from bitnet_tui.screens.base import LookingScreen
from bitnet_tui.screens.managing import ManagingScreen
from bitnet_tui.theme import paint
from bitnet_tui.view import experiment_list
from bitnet_tui.view.spans import Line, Span, line, short, spread
from bitnet_tui.widgets.painted import Painted

if TYPE_CHECKING:
    from bitnet_tui.view.home_columns import Column
    from bitnet_tui.view.home_order import Order
    from bitnet_tui.view.titles import Placed
    from bitnet_tui.view.workspace import ExperimentRow
    from bitnet_tui.widgets.table import Table, Titles

_LOOK_SECONDS = 1.0
_SHARE, _LONGEST_SECONDS = 500, 5.0
"""The pause after a look, as a multiple of its time, and at most: so the app rests in a large workspace, too."""
_MEASURE_SECONDS = 0.3
_HAND_SECONDS = 60.0
"""Rows keep their places for this long after a key or a move of the mouse: somebody may look for one of them."""
_KEPT = "home"
_LEGEND_SIDES = 8
"""Cells left and right of the legend, as in the stylesheet."""


class Seen(NamedTuple):
    """What a look has found, and what it took of a core; `kept` is the order of the last time, told once."""

    rows: "tuple[ExperimentRow, ...]"
    seconds: float
    kept: "Order | None" = None


class ExperimentsScreen(LookingScreen[Seen], ManagingScreen):
    """The table refreshes itself; only lines that changed are redrawn."""

    CSS_PATH = "experiments.tcss"
    BINDINGS = bindings.of("list")

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[ExperimentRow, ...] | None = None
        self._shown: tuple[ExperimentRow, ...] = ()
        self._placed: tuple[Placed[Column], ...] = ()
        self._marked: dict[Path, None] = {}
        """In the order of marking, which the letters of a comparison follow."""
        self._order: Order | None = None
        self._due = self._cost = self._minute = 0.0
        self._wanted: Path | None = None
        self._sort_next = True
        """At the next look, whatever the hands do: until all was read, after a change, after another screen."""
        self._waits_for_order = self._all_read = False
        self._back_at = 0.0
        """When another screen went that had covered the table: a key or a move before that was not about its rows."""

    def head(self) -> Line:
        counted = "experiments" if self._rows is None else experiment_list.counted(self._rows, len(self._marked))
        left = [Span("bitnet-tui", "title"), Span(f"  {counted}", "label")]
        return spread(left, [Span(short(self.shell.home), "label")], max(0, self.app.size.width - 2))

    def skeleton(self) -> Iterable[Widget]:
        yield Container(id="experiments")
        yield Painted(paint([self._legend()]), id="legend")

    async def furnish(self) -> None:
        # The first paint does not need the modules that read runs.
        await load(HOME)
        if not self.on_stack:
            return
        from bitnet_tui.services.sizes import Sizes
        from bitnet_tui.view.home_table import Lines
        from bitnet_tui.view.workspace import WorkspaceWatcher
        from bitnet_tui.widgets.inputs import FilterInput
        from bitnet_tui.widgets.links import Links
        from bitnet_tui.widgets.table import Table, Titles

        self._watcher, self._sizes, self._lines = WorkspaceWatcher(self.shell.home), Sizes(), Lines()
        filter_line = FilterInput(
            id="filter",
            compact=True,
            placeholder=f"name, teacher, student or state; {self.shell.key('list.clear')} clears",
        )
        filter_line.display = False
        await self.query_one("#experiments").mount(
            Titles(id="titles"), Table(id="entries"), Painted(id="empty"), filter_line, Painted(id="about")
        )
        await self.mount(Links(id="links"), before="#legend")

    def begin(self) -> None:
        super().begin()
        self._table.focus()
        self.set_interval(_LOOK_SECONDS, self._tick)
        self.look()

    def _tick(self) -> None:
        if self.in_sight and time.monotonic() >= self._due:
            self.look()

    def looker(self) -> Callable[[], Seen]:
        watcher, sizes, first = self._watcher, self._sizes, self._order is None

        def look() -> Seen:
            from bitnet_tui.services import kept
            from bitnet_tui.view.home_order import Order

            began = time.thread_time()
            rows = watcher.glance()
            seconds = time.thread_time() - began
            if not any(row.pending for row in rows):
                versions = {row.root: row for row in rows}
                sizes.measure(sizes.due(versions), versions, _MEASURE_SECONDS)
            rows = watcher.sized(rows, sizes.of)
            return Seen(rows, seconds, Order.of(kept.read(_KEPT)) if first else None)

        return look

    @property
    def ready(self) -> bool:
        """Whether there are rows to act on. What is still to be read of them comes while one works."""
        return self.complete and self._rows is not None

    def _legend(self) -> Line:
        """Nothing while experiments are being read: which signs it explains depends on them."""
        cells = max(1, self.app.size.width - _LEGEND_SIDES)
        return experiment_list.legend(cells, self._rows or ()) if self._all_read else ()

    def on_resize(self) -> None:
        if self.too_small or not self.on_stack:
            return
        self.query_one("#legend", Painted).show((self._legend(),))
        if self._rows is not None:
            self.call_after_refresh(self._redraw)

    def on_screen_suspend(self) -> None:
        self._sort_next |= not self.in_sight

    def on_screen_resume(self) -> None:
        if self.shell.last_opened is not None:
            self._wanted, self.shell.last_opened = self.shell.last_opened, None
        if self._rows is not None:
            self._back_at = time.monotonic() if self._sort_next else self._back_at
            self._redraw(sort=self._sort_next)  # now: a moment later a hand may be at a row
            self._sort_next = any(row.pending for row in self._rows)
            self.look()

    # -- drawing ---------------------------------------------------------------------------------------------------

    def draw(self, view: Seen) -> None:
        minute = time.time() // 60
        same = self._rows is not None and (minute, [*map(id, view.rows)]) == (self._minute, [*map(id, self._rows)])
        self._order = view.kept or self._order
        self._rows, self._minute = view.rows, minute
        there = {row.root for row in view.rows}
        self._marked = {root: None for root in self._marked if root in there}
        cheaper, self._cost = min(view.seconds, self._cost), view.seconds  # of the one that read a lot another is not
        self._due = time.monotonic() + min(_LONGEST_SECONDS, _SHARE * cheaper) - _LOOK_SECONDS / 2
        pending = any(row.pending for row in view.rows)
        self._all_read |= not pending
        if pending:
            self.look()
        seconds = min(_HAND_SECONDS, time.monotonic() - self._back_at)
        sort = self._sort_next or self.shell.idle_seconds >= seconds
        self._sort_next &= pending
        if not same or (sort and self._waits_for_order):
            self._redraw(sort=sort)

    def _redraw(self, *, sort: bool = False) -> None:
        """Draw the table; without `sort`, each row where it is already."""
        from bitnet_tui.view.home_order import Order, in_places, shown
        from bitnet_tui.view.home_table import layout
        from bitnet_tui.view.titles import header
        from bitnet_tui.widgets.table import GUTTER, Row

        if not self.on_stack:
            return
        order = self._order or Order()
        rows, table = self._rows or (), self._table
        ordered = shown(rows, order, self._filter.value)
        self._shown = ordered if sort else in_places(ordered, [row.root for row in self._shown])
        self._waits_for_order = [*map(id, self._shown)] != [*map(id, ordered)]
        cells = max(24, (table.scrollable_content_region.width or self.size.width - 2) - GUTTER)
        self._placed, now = layout(self._shown, cells), time.time()
        text = {row.root: self._lines.of(row, self._placed, cells, now) for row in self._shown}
        table.show([Row(str(root), line, root in self._marked) for root, line in text.items()])
        if self._wanted in [row.root for row in self._shown]:
            table.go_to(str(self._wanted))
            self._wanted = None
        self.query_one("#titles", Painted).show((line(" " * GUTTER, *header(self._placed, order)),))
        self.query_one("#titles").display = table.display = bool(self._shown)
        empty = self.query_one("#empty", Painted)
        empty.display = not self._shown
        empty.say(experiment_list.nothing_shown(rows, self._filter.value), "", *experiment_list.OFFERED_THERE)
        self.query_one("#head", Painted).show((self.head(),))
        self.query_one("#legend", Painted).show((self._legend(),))
        self._describe()
        self.refresh_bindings()

    def _describe(self) -> None:
        """What there is to say of the experiment under the cursor."""
        from bitnet_tui.widgets.links import Links

        row = self._current
        self.query_one("#about", Painted).show(experiment_list.about(row, self.size.width - 6) if row else ((),))
        offers = key_names.offers("list", self.shell.keymap.keys)
        self.query_one("#links", Links).offer(experiment_list.offered(offers, self._rows or (), len(self._marked)))

    # -- what the keys act on --------------------------------------------------------------------------------------

    @property
    def _table(self) -> "Table":
        from bitnet_tui.widgets.table import Table

        return self.query_one("#entries", Table)

    @property
    def _filter(self) -> Input:
        return self.query_one("#filter", Input)

    @property
    def _current(self) -> "ExperimentRow | None":
        key = self._table.key
        return next((row for row in self._shown if str(row.root) == key), None)

    @property
    def marked(self) -> tuple[Path, ...]:
        """The marked experiments in the order of marking."""
        return tuple(self._marked)

    @property
    def chosen(self) -> tuple[Path, ...]:
        """What an action is about: the marked experiments or, if there are none, the one under the cursor."""
        row = self._current
        return self.marked or ((row.root,) if row else ())

    @property
    def at_work(self) -> Sequence[str]:
        from bitnet_tui.view import going

        return [what for row in self._rows or () if row.root in self.chosen and (what := going.at_work(row))]

    def on_table_moved(self) -> None:
        self._describe()

    def on_table_resized(self) -> None:
        if self._rows is not None:
            self._redraw()

    def on_table_chosen(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        row = self._current
        if row is not None and self.is_active:  # not twice for two presses in a burst
            self.shell.open_experiment(row.root)

    def action_play(self) -> None:
        row = self._current
        if row is not None and self.is_active:
            self.shell.open_playground(row.root)

    def action_benchmarks(self) -> None:
        from bitnet_tui.screens.benchmarks import BenchmarksScreen

        if self.is_active:
            self.app.push_screen(BenchmarksScreen(self._current.root if self._current else None))

    def action_duplicate(self) -> None:
        roots = self.chosen
        if len(roots) > 1:
            self.notify("Only one experiment can be duplicated at a time; unmark the others.", severity="warning")
        elif roots and self.is_active:
            self.shell.new_experiment(roots[0])

    def action_archive(self) -> None:
        """Hide the chosen ones; take them back if all of them are archived already."""
        rows = [row for row in self._rows or () if row.root in self.chosen]
        self.archive(archived=not all(row.archived for row in rows))

    def changed(self, root: Path | None = None) -> None:
        self._marked.clear()
        self._wanted, self._sort_next = root, True
        self.look()

    def action_compare(self) -> None:
        """Of one alone, ask with what."""
        # Imported when they are used, so that they do not delay the first paint.
        from bitnet_core.results.compare import FEWEST, MOST
        from bitnet_tui.screens.compare_with import compare_with

        roots = self.chosen
        if len(roots) > MOST:
            self.notify(f"At most {MOST} can be compared at once.", severity="warning")
        elif self.is_active and len(roots) >= FEWEST:
            self.shell.compare(roots)
        elif self.is_active and roots:
            compare_with(self.shell, roots[0])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "clear":
            return self.complete and bool(self._filter.display or self._marked)
        return super().check_action(action, parameters)

    # -- marks -----------------------------------------------------------------------------------------------------

    def on_table_pressed(self, message: "Table.Pressed") -> None:
        self._turn_mark(Path(message.key))

    def action_mark(self) -> None:
        if self._current is not None:
            self._turn_mark(self._current.root)

    def _turn_mark(self, root: Path) -> None:
        if root in self._marked:
            del self._marked[root]
        else:
            self._marked[root] = None
        self._redraw()

    # -- order and filter ------------------------------------------------------------------------------------------

    def on_titles_clicked(self, message: "Titles.Clicked") -> None:
        from bitnet_tui.view.titles import column_at

        column = column_at(self._placed, message.cell)
        if column is not None and self._order is not None:
            self._put_in_order(self._order.sorted_by(column))

    def action_sort(self, steps: int) -> None:
        if self._order is not None:
            order = self._order
            self._put_in_order(order.moved(steps) if steps else order.sorted_by(order.by))

    def action_show_archived(self) -> None:
        if self._order is not None:
            if not self._order.archived:
                self._wanted = self.archived_last
            self._put_in_order(replace(self._order, archived=not self._order.archived))

    def _put_in_order(self, order: "Order") -> None:
        from bitnet_tui.services import kept

        self._order = order
        self._redraw(sort=True)
        self.app.run_worker(lambda: kept.write(_KEPT, order.record()), thread=True, group="kept")

    def action_filter(self) -> None:
        self._filter.display = True
        self.set_focus(self._filter)  # at once: the next key of a burst must start nothing

    def on_input_changed(self) -> None:
        if self._rows is not None:
            self._redraw(sort=True)

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the table."""
        self._filter.display = bool(self._filter.value)
        self.set_focus(self._table)

    def action_clear(self) -> None:
        """Undo the filter, or else the marks."""
        if self._filter.display:
            self._filter.value = ""
            self._filter.display = False
            self.set_focus(self._table)
        else:
            self._marked.clear()
        self._redraw()
