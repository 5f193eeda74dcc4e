"""The copy as a tree to open: by keys and by clicks. The target is asked when a folder is first opened."""

from typing import ClassVar

from textual.binding import BindingType
from textual.message import Message
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from bitnet_tui import bindings
from bitnet_tui.theme import paint
from bitnet_tui.view.stored import Node, Tree, nodes
from bitnet_tui.widgets.lists import Entries


class StoredTree(Entries):
    """Shows a `Tree`, and remembers which folders are open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.right", "open_folder", "Open"),
        bindings.shared("move.left", "close_folder", "Close"),
        bindings.shared("move.turn", "select", "Open or close"),
    ]

    class Wanted(Message):
        """A folder was opened, and what is in it is not known yet."""

    def __init__(self) -> None:
        super().__init__(id="stored-tree", markup=False, classes="pages")
        self._opened: set[str] = set()
        self._lines_shown: tuple[Node, ...] = ()
        self._tree: Tree | None = None

    def show(self, tree: Tree) -> None:
        """Draw it if it differs; the cursor stays on its line."""
        self._tree = tree
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        if self._tree is None or self.content_size.width <= 0:
            return
        found = nodes(self._tree, self._opened, self.content_size.width - 3)
        if found == self._lines_shown:
            return
        kept, top = self._path, self.scroll_y
        self._lines_shown = found
        self.set_options([Option(paint([one.text]), id=one.path) for one in found])
        self._go_to(kept)
        self.scroll_to(y=top, animate=False)

    @property
    def _path(self) -> str:
        place = self.highlighted
        return self._lines_shown[place].path if place is not None and place < len(self._lines_shown) else ""

    def _go_to(self, path: str) -> None:
        paths = [one.path for one in self._lines_shown]
        self.highlighted = paths.index(path) if path in paths else 0 if paths else None

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._turn(event.option.id or "")

    def _turn(self, path: str) -> None:
        if path.endswith("/"):
            self._opened ^= {path}
            if path in self._opened and self._tree is not None and self._tree.listed is None:
                self.post_message(self.Wanted())
            self._draw()

    def action_open_folder(self) -> None:
        if self._path not in self._opened:
            self._turn(self._path)
        else:
            self.action_cursor_down()

    def action_close_folder(self) -> None:
        """Close the folder, or go to the one that it is in."""
        path = self._path
        if path in self._opened:
            self._turn(path)
        elif "/" in path.rstrip("/"):
            self._go_to(path.rstrip("/").rpartition("/")[0] + "/")
