"""The list of experiments: what each has done and what is running in it."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.containers import Container
from textual.widget import Widget

from bitnet_tui import actions
from bitnet_tui.screens.base import LookingScreen
from bitnet_tui.theme import paint
from bitnet_tui.view import experiment_list
from bitnet_tui.view.spans import Line, Span, short, spread
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

if TYPE_CHECKING:
    from textual.widgets import OptionList

    from bitnet_tui.view.workspace import ExperimentRow

_LOOK_SECONDS = 1.0
_SIDES = 6
_PADDING = 4
_EMPTY = "No experiments yet. Press n to create one, d for the demo."


class ExperimentsScreen(LookingScreen["tuple[ExperimentRow, ...]"]):
    """The list refreshes itself; only entries that changed are redrawn."""

    CSS_PATH = "experiments.tcss"
    BINDINGS = actions.bindings("list")

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[ExperimentRow, ...] | None = None
        self._cards: dict[str, tuple[Line, ...]] = {}

    def head(self) -> Line:
        counted = "experiments" if self._rows is None else experiment_list.counted(self._rows)
        left = [Span("bitnet-tui", "title"), Span(f"  {counted}", "label")]
        return spread(left, [Span(short(self.shell.home), "label")], max(0, self.app.size.width - 2))

    def skeleton(self) -> Iterable[Widget]:
        yield Container(id="experiments")
        yield Words(paint([experiment_list.legend()]), id="legend")

    async def furnish(self) -> None:
        # The first paint does not need the modules that read runs.
        from bitnet_tui.view.workspace import WorkspaceWatcher
        from bitnet_tui.widgets.lists import Entries

        self._watcher = WorkspaceWatcher(self.shell.home)
        await self.query_one("#experiments").mount(Entries(id="entries", markup=False))

    def begin(self) -> None:
        super().begin()
        self._entries.focus()
        self.set_interval(_LOOK_SECONDS, self._tick)
        self.look()

    def _tick(self) -> None:
        if self.in_sight:
            self.look()

    def looker(self) -> "Callable[[], tuple[ExperimentRow, ...]]":
        return self._watcher.look

    def on_resize(self) -> None:
        if not self.on_stack:
            return
        self.query_one("#head", Painted).show((self.head(),))
        if self._rows is not None:
            self.call_after_refresh(self.draw, self._rows)

    def on_screen_resume(self) -> None:
        if self._rows is not None:
            self.look()

    def draw(self, view: "tuple[ExperimentRow, ...]") -> None:
        entries = self._entries
        self._rows = view
        # Before its first layout the list has no width yet.
        cells = max(24, (entries.size.width or self.size.width - _PADDING) - _SIDES)
        now = time.time()
        cards = {str(row.root): experiment_list.card(row, cells, now) for row in view}
        if not cards or list(cards) != list(self._cards):
            self._rebuild(entries, cards)
        else:
            for key, lines in cards.items():
                if lines != self._cards[key]:
                    entries.replace_option_prompt(key, paint(lines[:2]) + "\n")
        self._cards = cards
        self.query_one("#head", Painted).show((self.head(),))

    def _rebuild(self, entries: "OptionList", cards: dict[str, tuple[Line, ...]]) -> None:
        from textual.widgets.option_list import Option

        highlighted = self._highlighted()
        with self.app.batch_update():
            entries.clear_options()
            entries.add_options([Option(paint(lines[:2]) + "\n", id=key) for key, lines in cards.items()])
            keys = list(cards)
            if not keys:
                entries.add_option(Option(_EMPTY, disabled=True))
            entries.highlighted = keys.index(highlighted) if highlighted in keys else 0 if keys else None

    @property
    def _entries(self) -> "OptionList":
        from textual.widgets import OptionList

        return self.query_one("#entries", OptionList)

    def _highlighted(self) -> str | None:
        option = self._entries.highlighted_option
        return option.id if option else None

    def on_option_list_option_selected(self) -> None:
        self.action_open()

    def action_open(self) -> None:
        highlighted = self._highlighted()
        if highlighted is not None and self.is_active:  # not twice for two presses in a burst
            self.shell.open_experiment(Path(highlighted))

    def action_play(self) -> None:
        highlighted = self._highlighted()
        if highlighted is not None and self.is_active:
            self.shell.open_playground(Path(highlighted))

    def action_duplicate(self) -> None:
        highlighted = self._highlighted()
        if highlighted is not None and self.is_active:
            self.shell.new_experiment(Path(highlighted))
