"""Small dialogs: a message to read, and a yes or no."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button

from bitnet_tui import bindings
from bitnet_tui.remedies import in_app
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.widgets.words import Words


class MessageScreen(DialogScreen[None]):
    """A message to read: what happened, and the sentences that say why and how to fix it."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss"]  # noqa: RUF012
    BINDINGS = [bindings.shared("dialog.close", "dismiss", keys="escape,enter,q")]  # noqa: RUF012

    def __init__(self, what: str, why: str) -> None:
        super().__init__()
        self._what = what
        self._why = why

    def compose(self) -> ComposeResult:
        with Vertical(classes="card message"):
            yield Words(self._what, classes="title")
            with VerticalScroll(can_focus=False, classes="why"):
                yield Words(in_app(self._why))
            with Horizontal(classes="buttons"):
                yield Button("Close", id="close", variant="primary", name="dismiss")


class ConfirmScreen(DialogScreen[bool]):
    """A question with a yes and a no. The safe answer has the focus.

    Where yes is `final`, which can't be taken back, its key only goes to the button: Enter, or a click, does it.
    """

    CSS_PATH = ["cards.tcss", "dialogs.tcss"]  # noqa: RUF012
    BINDINGS = [  # noqa: RUF012
        bindings.shared("dialog.no", "dismiss(False)"),
        bindings.shared("dialog.yes", "yes"),
        bindings.shared("move.left", "app.focus_previous"),
        bindings.shared("move.right", "app.focus_next"),
    ]

    def __init__(self, what: str, why: str, yes: str, no: str, *, final: bool = False) -> None:
        super().__init__()
        self._texts = (what, why, yes, no)
        self._final = final

    def compose(self) -> ComposeResult:
        what, why, yes, no = self._texts
        with Vertical(classes="card message"):
            yield Words(what, classes="title")
            yield Words(why)
            with Horizontal(classes="buttons"):
                yield Button(Content(no), id="no", name="dismiss(False)")
                yield Button(Content(yes), id="yes", name="dismiss(True)")

    def action_yes(self) -> None:
        if self._final:
            self.query_one("#yes").focus()
        else:
            self.dismiss(True)
