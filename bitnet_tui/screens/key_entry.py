"""A dialog in which an API key is typed or pasted."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input

from bitnet_tui import bindings
from bitnet_tui.labels import title
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.view.guide import labelled, pasted
from bitnet_tui.widgets.inputs import SecretInput
from bitnet_tui.widgets.words import Words


class KeyEntryScreen(DialogScreen[str | None]):
    """Returns the key that was typed, which is never shown, or None."""

    CSS_PATH = "cards.tcss"
    AUTO_FOCUS = "#value"
    BINDINGS = [  # noqa: RUF012
        bindings.shared("field.cancel", "dismiss"),
        bindings.shared("field.next", "app.focus_next"),
        bindings.shared("field.previous", "app.focus_previous"),
    ]

    def __init__(self, name: str, keeper: str) -> None:
        """`keeper` is where it will be kept."""
        super().__init__()
        self._name_of_key = name
        self._keeper = keeper

    def compose(self) -> ComposeResult:
        with Vertical(classes="card form"):
            yield Words(title(self._name_of_key), classes="title")
            yield Words(f"Type or paste the key. It will be kept in {self._keeper}.", classes="where")
            yield SecretInput(id="value")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss")
                yield Button("Save", id="save", name="save")

    async def take_in(self, text: str) -> bool:
        """Of a pasted line `NAME=key` or `Key: key`, or of a text with one key in it, take the key."""
        found = pasted.read(text)
        keys = found.keys if found else {}
        only = next(iter(keys.values())) if len(keys) == 1 else ""
        key = keys.get(self._name_of_key) or labelled.only_secret(text) or only
        if not key:
            return False
        self.query_one("#value", Input).value = key
        return True

    def on_input_submitted(self) -> None:
        self.action_save()

    def action_save(self) -> None:
        value = self.query_one("#value", Input).value.strip()
        if value:
            self.dismiss(value)
        else:
            self.app.notify("The key is empty: type or paste it.", severity="warning")
