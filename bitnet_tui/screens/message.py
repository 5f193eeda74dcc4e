"""A dialog: a message to read."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button

from bitnet_tui import bindings, key_names
from bitnet_tui.remedies import in_app
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.widgets.words import Words


class MessageScreen(DialogScreen[None]):
    """A message to read: what happened, and the sentences that say why and how to fix it."""

    CSS_PATH = "cards.tcss"
    BINDINGS = [  # noqa: RUF012
        bindings.shared("dialog.close", "dismiss", keys="escape,enter,q"),
        bindings.one("experiment.config"),
        *bindings.scrolling(),
    ]

    def __init__(self, what: str, why: str, *, config: bool = False) -> None:
        """With `config` it is about a setting, and offers to open the Config tab of the screen below."""
        super().__init__()
        self._config = config
        self._what = what
        self._why = why

    def compose(self) -> ComposeResult:
        with Vertical(classes="card"):
            yield Words(self._what, classes="title")
            with VerticalScroll(can_focus=False, classes="long"):
                yield Words(in_app(self._why))
            with Horizontal(classes="buttons"):
                yield Button("Close", id="close", variant="primary", name="dismiss")
                if self._config:
                    words = f"{key_names.key('experiment.config')} Config"
                    yield Button(Content(words), id="config", name="view('config')")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._config if action == "view" else super().check_action(action, parameters)
