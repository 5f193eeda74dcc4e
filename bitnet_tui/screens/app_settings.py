"""The app's own settings in one place, each with its origin. Enter opens what changes one."""

from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from bitnet_core.errors import BitnetError
from bitnet_tui import bindings, keymap
from bitnet_tui.key_names import key
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.services import keys, preferences
from bitnet_tui.services.settings import own, resolved
from bitnet_tui.shell import Shell
from bitnet_tui.theme import paint
from bitnet_tui.themes import THEMES
from bitnet_tui.view.app_settings import AppSetting, about, row_line, rows
from bitnet_tui.view.offered import closes
from bitnet_tui.view.spans import line, short
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words, titled

if TYPE_CHECKING:
    from pathlib import Path


class AppSettingsScreen(DialogScreen[None]):
    """A list; the files are read in a thread."""

    CSS_PATH = ["cards.tcss", "app_settings.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#entries"
    BINDINGS = [bindings.shared("dialog.close", "dismiss")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self._rows: tuple[AppSetting, ...] = ()

    def compose(self) -> ComposeResult:
        with Vertical(classes="card app-settings"):
            changes = line(f"{key('move.choose')} changes")
            yield Words(titled("Settings of the app", changes, closes()), classes="title")
            yield Entries(id="entries", markup=False, classes="long")
            yield Painted(id="what")
            with Horizontal(classes="buttons"):
                yield Button("Close", id="close", name="dismiss")

    def on_screen_resume(self) -> None:
        """It was opened, or what changed one was closed."""
        names = {theme.name: label for label, (theme, _) in THEMES.items()}
        theme = names.get(self.app.theme, self.app.theme)
        self.app.run_worker(partial(self._read, self.shell, theme, self.shell.home), thread=True, group="own")

    def _read(self, shell: Shell, theme: str, home: "Path") -> None:
        try:
            origin = preferences.theme_origin(few_colours=shell.few_colours)
            made = partial(rows, resolved(home), (theme, origin), (short(home), own(home)), short(keymap.place()))
            if not self._rows:  # a keyring may take seconds
                shell.call_later(self._show, made(None))
            held = {one.name: one for one in keys.held(home).keys}
        except (BitnetError, OSError) as error:
            shell.call_later(self._failed, str(error))
        else:
            shell.call_later(self._show, made(held))

    def _failed(self, problem: str) -> None:
        if self.on_stack:
            self.query_one("#what", Painted).say(problem, "bad")

    def _show(self, made: tuple[AppSetting, ...]) -> None:
        if not self.on_stack or made == self._rows:
            return
        self._rows = made
        self._draw()

    def on_resize(self) -> None:
        if not self.too_small:  # hidden, it stays as it was
            self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        if not self._rows:
            return
        entries = self.query_one("#entries", OptionList)
        place = entries.highlighted or 0
        entries.set_options([Option(paint([row_line(row, self._cells)])) for row in self._rows])
        entries.highlighted = place

    @property
    def _cells(self) -> int:
        """Of a line of the list."""
        return max(24, self.query_one("#entries").size.width - 4)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        row = self._rows[event.option_index]
        self.query_one("#what", Painted).say(about(row, self._cells), "label")

    async def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if opens := self._rows[event.option_index].opens:
            self.shell.open_dialog(opens)
