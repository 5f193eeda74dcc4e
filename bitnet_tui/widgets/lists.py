"""Lists and selects that take any key at any time: Textual's fail if a page is turned before their first layout."""

from typing import Literal

from textual.app import ComposeResult
from textual.command import CommandList
from textual.widgets import OptionList, Select
from textual.widgets._select import SelectCurrent, SelectOverlay


def _turn_page(entries: OptionList, direction: Literal[-1, 1]) -> None:
    """As in Textual; nothing while the lines are not laid out, as in a window too small to draw them."""
    if (entries.highlighted or 0) in entries._index_to_line:
        OptionList._move_page(entries, direction)


class Entries(OptionList):
    """A list."""

    _move_page = _turn_page


class Commands(CommandList, can_focus=False):
    """The list of the command palette."""

    _move_page = _turn_page


class _Choices(SelectOverlay):
    _move_page = _turn_page


class Choice(Select[str]):
    """A field with choices."""

    def compose(self) -> ComposeResult:
        """As in Textual, with a list of ours."""
        yield SelectCurrent(self.prompt)
        yield _Choices(type_to_search=self._type_to_search).data_bind(compact=Select.compact)
