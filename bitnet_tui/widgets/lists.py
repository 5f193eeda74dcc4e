"""Lists that take any key and click at any time.

Textual's fail if a page is turned before their first layout, or if the entry that is clicked has just been removed.
"""

from typing import ClassVar, Literal

from textual import events
from textual.binding import BindingType
from textual.command import CommandList
from textual.containers import VerticalScroll
from textual.widgets import OptionList

from bitnet_tui import bindings


def _turn_page(entries: OptionList, direction: Literal[-1, 1]) -> None:
    """As in Textual; nothing while the lines are not laid out, as in a window too small to draw them."""
    if (entries.highlighted or 0) in entries._index_to_line:
        OptionList._move_page(entries, direction)


async def _take_click(entries: OptionList, event: events.Click) -> None:
    """As in Textual; nothing if the entry that was drawn there is gone: the click is older than the list."""
    event.prevent_default()  # Textual's own handler, which would be called next
    if (event.style.meta.get("option") or 0) < entries.option_count:
        await OptionList._on_click(entries, event)


class Entries(OptionList):
    """A list. It also moves by the keys of vim."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.down", "cursor_down"),
        bindings.shared("move.up", "cursor_up"),
        bindings.shared("move.first", "first"),
        bindings.shared("move.last", "last"),
    ]
    _move_page = _turn_page
    _on_click = _take_click


class Reading(VerticalScroll):
    """A text to read. It also scrolls by the keys of vim."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.down", "scroll_down"),
        bindings.shared("move.up", "scroll_up"),
        bindings.shared("move.first", "scroll_home"),
        bindings.shared("move.last", "scroll_end"),
    ]


class Overflow(Reading):
    """A text that takes the focus only while it is longer than its place."""

    def allow_focus(self) -> bool:
        return self.max_scroll_y > 0


class Commands(CommandList, can_focus=False):
    """The list of the command palette."""

    _move_page = _turn_page
    _on_click = _take_click
