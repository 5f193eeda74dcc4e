"""Two small dialogs: something to read, and a yes or no."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class MessageScreen(ModalScreen[None]):
    """A message to read: what happened, and the sentences that say why and how to fix it."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss"]  # noqa: RUF012
    BINDINGS = [Binding("escape,enter,q", "close", "Close", id="message.close")]  # noqa: RUF012

    def __init__(self, what: str, why: str) -> None:
        super().__init__()
        self._what = what
        self._why = why

    def compose(self) -> ComposeResult:
        with Vertical(classes="card message"):
            yield Static(self._what, classes="title", markup=False)
            with VerticalScroll(can_focus=False, classes="why"):
                yield Static(self._why, markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Close", id="close", variant="primary")

    def on_button_pressed(self) -> None:
        self.action_close()

    def action_close(self) -> None:
        self.dismiss()


class ConfirmScreen(ModalScreen[bool]):
    """A question with a yes and a no. The safe answer has the focus."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss"]  # noqa: RUF012
    BINDINGS = [  # noqa: RUF012
        Binding("escape,n", "answer(False)", "No", id="confirm.no"),
        Binding("y", "answer(True)", "Yes", id="confirm.yes"),
        Binding("left", "app.focus_previous", "Previous", show=False),
        Binding("right", "app.focus_next", "Next", show=False),
    ]

    def __init__(self, what: str, why: str, yes: str, no: str) -> None:
        super().__init__()
        self._texts = (what, why, yes, no)

    def compose(self) -> ComposeResult:
        what, why, yes, no = self._texts
        with Vertical(classes="card message"):
            yield Static(what, classes="title", markup=False)
            yield Static(why, markup=False)
            with Horizontal(classes="buttons"):
                yield Button(no, id="no")
                yield Button(yes, id="yes")

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        self.dismiss(yes)
