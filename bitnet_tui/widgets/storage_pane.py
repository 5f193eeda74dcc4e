"""The copy of the experiment: what is known of it, and buttons for what can be done."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button

from bitnet_tui.view.copy import CopyView
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.painted import Painted


class StoragePane(Vertical):
    """Its buttons are named after the actions of the screen."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="store-buttons"):
            yield Button("Push now (u)", name="store('push')", compact=True)
            yield Button("Verify (v)", name="store('verify')", compact=True)
            yield Button("Pull (U)", name="store('pull')", compact=True)
        with VerticalScroll(id="store-scroll", classes="pages", can_focus=True):
            yield Painted(id="store-text")

    def show(self, copy: CopyView, lines: tuple[Line, ...]) -> None:
        self.query_one("#store-buttons").display = bool(copy.backend)
        self.query_one("#store-text", Painted).show(lines)
