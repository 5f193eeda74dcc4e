"""The copy of the experiment: what is known of it, and buttons for what can be done."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll

from bitnet_tui.view.copy import CopyView
from bitnet_tui.view.spans import Line
from bitnet_tui.view.stored import Tree
from bitnet_tui.widgets.buttons import BARE, LONG, SHORT, KeyButton
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.stored_tree import StoredTree

_ROOMY, _TIGHT = 5, 3
"""Cells beside the words of a button and between two, with room at their sides and without."""


class StoragePane(Vertical):
    """Its buttons are named after the actions of the screen."""

    def compose(self) -> ComposeResult:
        with Horizontal(id="store-buttons", classes="bar"):
            yield KeyButton("Push", "experiment.push")
            yield KeyButton("Verify", "experiment.verify")
            yield KeyButton("Pull", "experiment.pull")
            yield KeyButton("Repair", "experiment.repair")
            yield KeyButton("Push over", "experiment.overwrite")
            yield KeyButton("Pull over", "experiment.replace")
            yield KeyButton("Target", "experiment.target", id="store-target")
        with VerticalScroll(id="store-scroll", classes="pages", can_focus=True):
            yield Painted(id="store-text")
        yield StoredTree()

    def on_resize(self) -> None:
        cells = self.size.width
        buttons, target = list(self.query(KeyButton)), self.query_one("#store-target", KeyButton)
        least = sum(one.cells(BARE) + _TIGHT for one in buttons) - 1
        if least > cells:  # its key does the same
            buttons.remove(target)
        target.set_class(least > cells, "-left-out")
        # Textual keeps a cell at each side of a button's words; with one between two, that makes three.
        forms = [(form, gap) for form in (LONG, SHORT, BARE) for gap in (_ROOMY, _TIGHT)]
        wide = {(form, gap): sum(one.cells(form) + gap for one in buttons) - 1 for form, gap in forms}
        form, gap = next((one for one in forms if wide[one] <= cells), forms[-1])
        for button in buttons:
            button.set_class(gap == _TIGHT, "-tight")
            button.say(button.words, form)

    def enter(self) -> None:
        """The tab was opened by its key."""
        tree = self.query_one(StoredTree)
        if tree.display:
            self.screen.set_focus(tree)

    def show(self, copy: CopyView, lines: tuple[Line, ...], tree: Tree) -> None:
        for button in self.query(KeyButton):
            if button.id != "store-target":
                button.display = bool(copy.backend)
        self.query_one("#store-text", Painted).show(lines)
        self.set_class(bool(copy.backend), "-kept")
        stored = self.query_one(StoredTree)
        stored.display = bool(copy.backend and copy.status.folders)
        self.set_class(stored.display, "-stored")
        stored.show(tree)
