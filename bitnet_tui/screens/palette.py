"""The command palette: Textual's, as a screen of this app, with a cursor that does not blink."""

from textual.command import CommandInput, CommandPalette

from bitnet_tui.screens.base import ShellScreen


# Textual finds the styles of a class by its first base.
class Palette(CommandPalette, ShellScreen[None]):
    """What it offers is in `bitnet_tui/palette.py`."""

    def on_mount(self) -> None:
        self.query_one(CommandInput).cursor_blink = False
