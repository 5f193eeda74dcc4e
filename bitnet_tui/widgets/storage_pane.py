"""The copy of the experiment: what is known of it, and buttons for what can be done."""

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll

from bitnet_tui.view.copy import CopyView
from bitnet_tui.view.spans import Line
from bitnet_tui.view.stored import Tree
from bitnet_tui.widgets.buttons import KeyBar, KeyButton
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.stored_tree import StoredTree

_TARGET = (("Choose a target", "Target"), ("Change or test target", "Target"))
"""What its button offers without a target, and with one; second, where there is little room."""


class StoragePane(Vertical):
    """Its buttons are named after the actions of the screen."""

    def compose(self) -> ComposeResult:
        with KeyBar(id="store-buttons"):
            yield KeyButton("Push", "experiment.push")
            yield KeyButton("Verify", "experiment.verify")
            yield KeyButton("Pull", "experiment.pull")
            yield KeyButton("Repair", "experiment.repair")
            yield KeyButton("", "experiment.target", others=_TARGET, id="store-target")
            yield KeyButton("Force push", "experiment.overwrite")
            yield KeyButton("Force pull", "experiment.replace")
        with VerticalScroll(id="store-scroll", classes="pages", can_focus=True):
            yield Painted(id="store-text")
        yield StoredTree()

    def enter(self) -> None:
        """The tab was opened by its key."""
        tree = self.query_one(StoredTree)
        if tree.display:
            self.screen.set_focus(tree)

    def show(self, copy: CopyView, lines: tuple[Line, ...], tree: Tree) -> None:
        for button in self.query(KeyButton):
            if button.id == "store-target":
                button.say(*_TARGET[bool(copy.backend)])
            else:
                button.want(bool(copy.backend))
        self.query_one("#store-text", Painted).show(lines)
        stored = self.query_one(StoredTree)
        stored.display = bool(copy.backend and copy.status.folders)
        self.set_class(stored.display, "-stored")
        stored.show(tree)
