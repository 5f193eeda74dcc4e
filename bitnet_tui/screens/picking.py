"""A dialog with a list to pick one thing from."""

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from bitnet_tui import bindings
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.theme import paint
from bitnet_tui.view.spans import line
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.words import Words


class PickScreen(DialogScreen[int]):
    """Returns the place of the entry that was picked, or None."""

    CSS_PATH = ["cards.tcss", "picking.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "#entries"
    BINDINGS = [bindings.shared("dialog.close", "dismiss")]  # noqa: RUF012

    def __init__(self, what: str, entries: Sequence[str]) -> None:
        super().__init__()
        self._what, self._entries = what, entries

    def compose(self) -> ComposeResult:
        with Vertical(classes="card pick"):
            yield Words(self._what, classes="title")
            yield Entries(*(Option(paint([line(one)])) for one in self._entries), id="entries", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="cancel", name="dismiss")
                yield Button("Choose", id="choose", name="choose", variant="primary")

    def action_choose(self) -> None:
        """Pick what is highlighted; a click on an entry and Enter do so at once."""
        self.query_one("#entries", Entries).action_select()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(event.option_index)
