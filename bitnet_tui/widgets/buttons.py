"""Buttons that name the key of their action, as the user has it, and take as much room as their words need."""

from typing import cast

from textual.widget import Widget
from textual.widgets import Button

from bitnet_core.text import width
from bitnet_tui.actions import by_id
from bitnet_tui.shell import Shell

NARROW = 70
"""Cells of a tab below which its buttons have short words."""
LONG, SHORT, BARE = "{0} ({1})", "{0} {1}", "{0}"
"""Words and key of a button where there is much room, little, and none for the key."""


class KeyButton(Button):
    """The button of an action in the table."""

    def __init__(self, words: str, action: str, *, id: str | None = None) -> None:  # noqa: A002 - textual's name
        super().__init__("", name=by_id(action).name, compact=True, id=id)
        self._action = action
        self.words, self._form = words, LONG

    def on_mount(self) -> None:
        shell = cast("Shell", self.app)
        shell.keymap_signal.subscribe(self, lambda _: self.say(self.words, self._form))
        self.say(self.words, self._form)

    def cells(self, form: str) -> int:
        """How many cells its words take in a form."""
        return width(form.format(self.words, key_of(self, self._action)))

    def say(self, words: str, form: str = LONG) -> None:
        """Show other words."""
        self.words, self._form = words, form
        relabel(self, form.format(words, key_of(self, self._action)))


def key_of(widget: Widget, action: str) -> str:
    """The key to name for an action, as the user has it."""
    return cast("Shell", widget.app).key(action)


def relabel(button: Button, label: str) -> None:
    if str(button.label) != label:
        button.label = label
        button.refresh(layout=True)
