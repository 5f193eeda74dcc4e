"""The copy of the experiment: what is known of it, and buttons for what can be done."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll

from bitnet_tui.view.copy import CopyView
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.buttons import KeyButton
from bitnet_tui.widgets.painted import Painted


class StoragePane(Vertical):
    """Its buttons are named after the actions of the screen."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="store-buttons", classes="bar"):
            yield KeyButton("Push now", "experiment.push")
            yield KeyButton("Verify", "experiment.verify")
            yield KeyButton("Pull", "experiment.pull")
        with VerticalScroll(id="store-scroll", classes="pages", can_focus=True):
            yield Painted(id="store-text")

    def show(self, copy: CopyView, lines: tuple[Line, ...]) -> None:
        self.query_one("#store-buttons").display = bool(copy.backend)
        self.query_one("#store-text", Painted).show(lines)
