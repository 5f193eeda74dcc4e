"""One trace as the tab Traces shows it: its head, its text, what the shades mean, buttons, and one token."""

from textual.app import ComposeResult
from textual.containers import Vertical

from bitnet_tui.widgets.buttons import KeyBar, KeyButton
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.token_text import TokenText

WORST = (("Worst token", "Worst"), ("Most Other", "Other"))
WORST_OF_ALL = (("Worst of all", "Worst of all"), ("Most Other of all", "Other of all"))
"""What is gone to by KL, and by Other; second, where there is little room."""


class TraceShown(Vertical):
    """The tab fills its parts; until there is a trace it is empty."""

    def __init__(self) -> None:
        super().__init__(id="trace-shown", classes="-empty")

    def compose(self) -> ComposeResult:
        yield Painted(id="trace-head")
        yield TokenText()
        yield Painted(id="trace-legend")
        with KeyBar(id="trace-going"):
            yield KeyButton("Worst token", "traces.worst", others=WORST, id="trace-worst")
            yield KeyButton("Worst of all", "traces.worst-of-all", others=WORST_OF_ALL, id="trace-worst-of-all")
            yield KeyButton("", "traces.shade", id="trace-shading")
        yield Painted(id="trace-token")
