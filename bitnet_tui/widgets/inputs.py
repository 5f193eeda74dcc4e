"""Fields to type in: one whose cursor does not blink, and one for a key or a passphrase."""

from typing import ClassVar

from textual import events
from textual.actions import SkipAction
from textual.binding import BindingType
from textual.keys import REPLACED_KEYS
from textual.reactive import reactive
from textual.widgets import Input

from bitnet_core.secrets.known import redactor
from bitnet_tui import bindings

_LIKE_A_KEY = "What was pasted looks like a key, and this field would show it."


def is_typed(key: str, character: str | None) -> bool:
    """Whether a field takes this key as a character. Textual knows none for `slash`, `plus`, `minus` and the like."""
    return key in REPLACED_KEYS or (character is not None and character.isprintable())


class SteadyInput(Input):
    """Every blink of Textual's cursor would be written to the terminal, even over SSH.

    Coming to it, by a key or a click, selects all that is in it, so that what is typed or pasted replaces that.
    Arrows, End or another click put the cursor into it.
    """

    BINDINGS: ClassVar[list[BindingType]] = [bindings.shared("field.all", "select_all")]
    cursor_blink = reactive(False, init=False)
    _came = False
    """Whether nothing was typed or clicked since it has the focus, but the click that brought it here."""

    def on_focus(self, event: events.Focus) -> None:
        self._came = not event.from_app_focus

    def on_key(self) -> None:
        self._came = False

    def on_click(self, event: events.Click) -> None:
        if event.chain > 1 or (self._came and self.selection.is_empty):  # else a part of it was selected by dragging
            self.select_all()
        self._came = False

    def on_paste(self, event: events.Paste) -> None:
        """Take no key into a field that shows it. Say what Textual, which takes the first line, leaves out."""
        if not self.password and redactor()(event.text) != event.text:
            event.prevent_default()
            self.notify(_LIKE_A_KEY, title="Not taken", severity="warning")
            return
        event.text = event.text.lstrip("\r\n")
        lines = sum(bool(line.strip()) for line in event.text.splitlines())
        if lines > 1:
            self.notify(f"Only the first of {lines} pasted lines fits into this field.", severity="warning")

    def check_consume_key(self, key: str, character: str | None) -> bool:
        return is_typed(key, character)


class FilterInput(SteadyInput):
    """A field above what it filters or searches, to which Down leads as Enter does."""

    BINDINGS: ClassVar[list[BindingType]] = [bindings.shared("field.next", "submit")]


class SecretInput(SteadyInput):
    """What is typed is neither shown nor copied.

    Textual's `Input` would send selected text unmasked to the terminal's clipboard (OSC 52), even over SSH.
    """

    def __init__(self, value: str = "", *, placeholder: str = "", id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(value, password=True, compact=True, placeholder=placeholder, id=id)

    def action_copy(self) -> None:
        """Copy nothing. Without a selection, the key does what it does elsewhere."""
        if not self.selected_text:
            raise SkipAction

    def action_cut(self) -> None:
        """Cut nothing: it would end up in the clipboard."""
