"""What stands in the place of the traces while there are none: why, and a button that collects them."""

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Button

from bitnet_tui.widgets.words import Words

_WHY = "There are no traces yet: collecting asks the teacher for answers and saves them."


class NoTraces(Vertical):
    """Its button is named after an action of the screen, which works whatever stage is selected."""

    _soon = ""

    def __init__(self) -> None:
        super().__init__(id="traces-none")

    def compose(self) -> ComposeResult:
        yield Words(_WHY)
        yield Button("Collect traces", name="collect", compact=True)

    def tell(self, soon: str) -> bool:
        """Say that collecting runs, or will start by itself, in place of the button. Returns whether that is new."""
        if soon == self._soon:
            return False
        self._soon = soon
        said = f"There are no traces yet. {soon} They can be read when it ends." if soon else _WHY
        self.query_one(Words).update(said)
        self.query_one(Button).display = not soon
        return True
