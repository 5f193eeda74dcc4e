"""The command palette: Textual's, as a screen of this app, with a cursor that does not blink."""

from textual.app import ComposeResult
from textual.command import CommandInput, CommandList, CommandPalette, SearchIcon

from bitnet_tui.screens.base import ShellScreen
from bitnet_tui.widgets.lists import Commands


# Textual finds the styles of a class by its first base.
class Palette(CommandPalette, ShellScreen[None]):
    """What it offers is in `bitnet_tui/palette.py`."""

    CSS_PATH = "palette.tcss"
    _NO_MATCHES_COUNTDOWN = 0.01  # type: ignore[misc]  # Textual waits for slow providers; ours has searched by then

    def compose(self) -> ComposeResult:
        for widget in super().compose():
            yield Commands() if isinstance(widget, CommandList) else widget

    def on_mount(self) -> None:
        self.query_one(CommandInput).cursor_blink = False
        self.query_one(SearchIcon).icon = "›"
