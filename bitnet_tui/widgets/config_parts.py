"""Parts of the Config tab: the list, the field in which a value is typed, and what a thread tells of a value."""

from dataclasses import replace
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.message import Message

from bitnet_tui import bindings
from bitnet_tui.services.config import Preview
from bitnet_tui.widgets.inputs import SteadyInput
from bitnet_tui.widgets.lists import Entries


class Previewed(Message, bubble=False):
    """What a value would do, or did: `saved` tells which. With `alone`, no field is open for it."""

    def __init__(self, found: Preview, *, saved: bool, alone: bool = False) -> None:
        super().__init__()
        self.found = found
        self.saved = saved
        self.alone = alone


class SettingList(Entries):
    """It shrinks when something is first said below it, and keeps the highlighted setting in sight then."""

    def on_resize(self) -> None:
        self.scroll_to_highlight()


class ValueInput(SteadyInput):
    """Closed until a value is changed. The foot names what Enter does with what is typed here."""

    class Clicked(Message):
        """It was clicked while it was closed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        replace(bindings.shared("move.choose", "submit", "Save"), show=True, tooltip="Save what was typed")
    ]

    def check_message_enabled(self, message: Message) -> bool:
        """Textual drops every click on a field that is closed; this one opens it."""
        return super().check_message_enabled(message) or (self.disabled and isinstance(message, events.Click))

    def on_click(self, event: events.Click) -> None:
        if self.disabled:
            event.prevent_default()
            self.post_message(self.Clicked())
