"""Gives an experiment another name."""

from functools import partial
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input

from bitnet_core.text import flat
from bitnet_tui import bindings
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words


class RenameScreen(KeyedScreen[dict[str, Any] | None]):
    """Returns what was done, or None. A name that is refused stays, to be corrected."""

    CSS_PATH = "cards.tcss"
    AUTO_FOCUS = "#name"
    BINDINGS = [  # noqa: RUF012
        bindings.shared("field.cancel", "dismiss"),
        bindings.shared("field.next", "app.focus_next"),
        bindings.shared("field.previous", "app.focus_previous"),
    ]

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root

    def compose(self) -> ComposeResult:
        with Vertical(classes="card form"):
            yield Words(f"Rename {flat(self._root.name)}", classes="title")
            yield SteadyInput(flat(self._root.name), compact=True, id="name")
            yield Painted(id="problem", classes="-empty")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss")
                yield Button("Rename", id="rename", name="save")

    def on_input_submitted(self) -> None:
        self.action_save()

    def action_save(self) -> None:
        name = self.query_one("#name", Input).value.strip()
        if self.busy:
            return
        if name in ("", self._root.name):
            self.dismiss()
            return
        from bitnet_tui.services import managing

        self.say("Renaming…", "label")
        work = partial(managing.rename, self.shell.home, self._root, name)
        self.attempt(work, self.dismiss, title="Rename")

    def refused(self, problem: str) -> None:
        self.say(problem, "bad")
        self.query_one("#name").focus()
