"""Asks for the vault's passphrase: to read a key from it, or to create it for a first key."""

from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input

from bitnet_core.secrets.places import unlock_vault
from bitnet_core.secrets.vault import SHORTEST_PASSPHRASE
from bitnet_tui import bindings
from bitnet_tui.remedies import in_app
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.view.spans import short
from bitnet_tui.widgets.inputs import SecretInput
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_ONLY_WAY = " Only its passphrase opens it."


class VaultScreen(KeyedScreen[bool]):
    """Returns whether the vault is open now. It stays open until the app ends."""

    CSS_PATH = ["cards.tcss", "vault.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#passphrase"
    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("field.cancel", "dismiss(False)"),
        bindings.shared("field.next", "app.focus_next"),
        bindings.shared("field.previous", "app.focus_previous"),
    ]

    def __init__(self, path: Path, why: str, *, new: bool) -> None:
        super().__init__()
        self._path = path
        self._why = why
        self._new = new

    def compose(self) -> ComposeResult:
        with Vertical(classes="card form vault"):
            yield Words("Create a vault for keys" if self._new else "Open the vault", classes="title")
            yield Words(in_app(self._why) + (_ONLY_WAY if self._new else ""))
            if str(self._path) not in self._why:
                yield Words(short(self._path), classes="where")
            yield SecretInput(id="passphrase", placeholder=self._rule())
            if self._new:
                yield SecretInput(id="again", placeholder="repeat the passphrase")
            yield Painted(id="problem", classes="-empty")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss(False)")
                yield Button("Create" if self._new else "Open", id="open", name="open")

    def _rule(self) -> str:
        return f"passphrase, at least {SHORTEST_PASSPHRASE} characters" if self._new else "passphrase"

    def on_input_submitted(self, event: Input.Submitted) -> None:
        if self._new and event.input.id == "passphrase":
            self.query_one("#again").focus()
        else:
            self.action_open()

    def action_open(self) -> None:
        passphrase = self.query_one("#passphrase", Input).value
        if self.busy:
            return
        if not passphrase:
            self.say("The passphrase is empty: type it.", "warn")
            self.query_one("#passphrase").focus()
            return
        if self._new and self.query_one("#again", Input).value != passphrase:
            self.say("The two passphrases differ; type the same one twice.", "warn")
            return
        self.attempt(lambda: unlock_vault(self._path, passphrase), lambda _: self.dismiss(True), doing="Opening…")

    def refused(self, problem: str) -> None:
        self.say(problem, "bad")
        for entry in self.query(Input):
            entry.value = ""
        self.query_one("#passphrase").focus()
