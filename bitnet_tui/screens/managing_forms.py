"""A small form of the table of experiments: a new name."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, Input

from bitnet_core.text import flat
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.words import Words


class NameScreen(DialogScreen[str | None]):
    """Returns the name that was typed, or None."""

    CSS_PATH = ["cards.tcss", "dialogs.tcss", "vault.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#name"
    BINDINGS = [  # noqa: RUF012
        Binding("escape", "dismiss", "Cancel", id="name.cancel"),
        Binding("down", "app.focus_next", "Next", show=False),
        Binding("up", "app.focus_previous", "Previous", show=False),
    ]

    def __init__(self, name: str) -> None:
        super().__init__()
        self._before = name

    def compose(self) -> ComposeResult:
        with Vertical(classes="card message vault"):
            yield Words(f"Rename {flat(self._before)}", classes="title")
            yield SteadyInput(flat(self._before), compact=True, id="name")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss")
                yield Button("Rename", id="rename", name="save")

    def on_input_submitted(self) -> None:
        self.action_save()

    def action_save(self) -> None:
        self.dismiss(self.query_one("#name", Input).value.strip())
