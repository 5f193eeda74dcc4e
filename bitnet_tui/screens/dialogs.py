"""Small dialogs: a message to read, a yes or no, and an API key to type."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Input

from bitnet_tui import bindings
from bitnet_tui.remedies import in_app
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.widgets.inputs import SecretInput
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
            yield Words(in_app(why))
            with Horizontal(classes="buttons"):
                yield Button(Content(no), id="no", name="dismiss(False)")
                yield Button(Content(yes), id="yes", name="dismiss(True)")

    def action_yes(self) -> None:
        if self._final:
            self.query_one("#yes").focus()
        else:
            self.dismiss(True)


class KeyEntryScreen(DialogScreen[str | None]):
    """Returns the key that was typed, which is never shown, or None."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss", "vault.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#value"
    BINDINGS = [  # noqa: RUF012
        bindings.shared("field.cancel", "dismiss"),
        bindings.shared("field.next", "app.focus_next"),
        bindings.shared("field.previous", "app.focus_previous"),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name_of_key = name

    def compose(self) -> ComposeResult:
        where = "Type or paste the key. It will be kept in the OS keyring or the encrypted vault."
        with Vertical(classes="card message vault"):
            yield Words(self._name_of_key, classes="title")
            yield Words(where, classes="where")
            yield SecretInput(id="value")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss")
                yield Button("Save", id="save", name="save")

    def on_input_submitted(self) -> None:
        self.action_save()

    def action_save(self) -> None:
        value = self.query_one("#value", Input).value.strip()
        if value:
            self.dismiss(value)
