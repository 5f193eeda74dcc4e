"""The copy of the experiment: what is known of it, and buttons for what can be done."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll

from bitnet_tui.view.copy import CopyView
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.buttons import BARE, LONG, NARROW, SHORT, KeyButton
from bitnet_tui.widgets.painted import Painted

_ROOMY, _LONG = 96, 80
"""Cells from which the buttons have room at their sides, and from which the key of each is in brackets."""


class StoragePane(Vertical):
    """Its buttons are named after the actions of the screen."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="store-buttons", classes="bar"):
            yield KeyButton("Push", "experiment.push")
            yield KeyButton("Verify", "experiment.verify")
            yield KeyButton("Pull", "experiment.pull")
            yield KeyButton("Repair", "experiment.repair")
            yield KeyButton("Push over", "experiment.overwrite")
            yield KeyButton("Pull over", "experiment.replace")
        with VerticalScroll(id="store-scroll", classes="pages", can_focus=True):
            yield Painted(id="store-text")

    def on_resize(self) -> None:
        cells = self.size.width
        form = LONG if cells >= _LONG else SHORT if cells >= NARROW else BARE
        self.set_class(cells < _ROOMY, "-tight")
        for button in self.query(KeyButton):
            button.say(button.words, form)

    def show(self, copy: CopyView, lines: tuple[Line, ...]) -> None:
        self.query_one("#store-buttons").display = bool(copy.backend)
        self.query_one("#store-text", Painted).show(lines)
