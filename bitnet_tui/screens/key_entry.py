"""Asks for the value of an API key."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

from bitnet_tui.widgets.secret_input import SecretInput

_WHERE = "Type or paste the key. It will be kept in the OS keyring or the encrypted vault."


class KeyEntryScreen(ModalScreen[str | None]):
    """Returns what was typed, which is never shown, or None."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss", "vault.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#value"
    BINDINGS = [  # noqa: RUF012
        Binding("escape", "cancel", "Cancel", id="key.cancel"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name_of_key = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="card message vault"):
            yield Static(self._name_of_key, classes="title", markup=False)
            yield Static(_WHERE, markup=False)
            yield SecretInput(id="value")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel")
                yield Button("Save", id="save")

    def on_input_submitted(self) -> None:
        self._save()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "save":
            self._save()
        else:
            self.action_cancel()

    def action_cancel(self) -> None:
        self.dismiss(None)

    def _save(self) -> None:
        value = self.query_one("#value", Input).value.strip()
        if value:
            self.dismiss(value)
