"""The field for a prompt of several lines: enter sends it, up and down at its ends go through earlier ones."""

from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import TextArea

from bitnet_tui.widgets.inputs import is_typed

_LONGEST = 20_000


class PromptField(TextArea):
    """Its cursor does not blink. Ctrl-J begins a new line."""

    cursor_blink = reactive(False, init=False)

    class Sent(Message):
        """Enter was pressed."""

    class Recalled(Message):
        """An earlier (-1) or a later (1) prompt is wanted."""

        def __init__(self, by: int) -> None:
            super().__init__()
            self.by = by

    def __init__(self, *, id: str, placeholder: str) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id, placeholder=placeholder, compact=True, highlight_cursor_line=False)

    def check_consume_key(self, key: str, character: str | None = None) -> bool:
        return key == "enter" or is_typed(key, character)

    def say(self, text: str) -> None:
        """Show this text with the cursor behind it."""
        self.text = text[:_LONGEST]
        self.move_cursor(self.document.end)

    async def _on_key(self, event: events.Key) -> None:
        row, last = self.cursor_location[0], self.document.line_count - 1
        if event.key == "enter":
            self._took(event, self.Sent())
        elif event.key == "up" and row == 0:
            self._took(event, self.Recalled(-1))
        elif event.key == "down" and row == last:
            self._took(event, self.Recalled(1))
        elif event.key == "ctrl+j":
            event.stop()
            event.prevent_default()
            self.insert("\n")
        else:
            await super()._on_key(event)

    def _took(self, event: events.Key, message: Message) -> None:
        event.stop()
        event.prevent_default()
        self.post_message(message)
