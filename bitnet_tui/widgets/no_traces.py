"""What stands in the place of the traces while there are none: that, and a button that collects them."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Button

from bitnet_tui.widgets.words import Words


class NoTraces(Vertical):
    """Its button is named after an action of the screen, which works whatever stage is selected."""

    def __init__(self) -> None:
        super().__init__(id="traces-none")

    def compose(self) -> ComposeResult:
        yield Words("There are no traces yet: collecting asks the teacher for answers and writes them down.")
        yield Button("Collect traces", name="collect", compact=True)
