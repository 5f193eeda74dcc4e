"""A dialog about one export: where it is, and each command that takes it elsewhere and runs it there."""

from typing import ClassVar, cast

from textual import events
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button

from bitnet_core.runs.exports import Exported
from bitnet_tui import bindings
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.shell import Shell
from bitnet_tui.view import exports
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_BAR_CELLS = 2
"""The bar before a command, which marks the one that is copied."""


class Command(Painted, can_focus=True):
    """One command with what it is for. The one that had the focus last is marked."""

    BINDINGS: ClassVar[list[BindingType]] = [  # its own, as the page around it would scroll by these keys
        bindings.shared("move.up", "app.focus_previous"),
        bindings.shared("move.down", "app.focus_next"),
    ]

    def __init__(self, what: str, command: str) -> None:
        super().__init__(classes="command")
        self.what, self.command = what, command

    def on_click(self) -> None:
        """A click gives it the focus, which marks it a moment later."""
        cast("Shell", self.app).copy_text(self.command)


class ExportedScreen(DialogScreen[bool]):
    """Returns True to export it again."""

    CSS_PATH = ["cards.tcss", "exported.tcss"]  # noqa: RUF012
    AUTO_FOCUS = "Command"
    BINDINGS = [  # noqa: RUF012
        bindings.shared("dialog.close", "dismiss(False)"),
        bindings.shared("app.copy", "copy"),
        bindings.shared("move.choose", "copy"),
        bindings.shared("move.left", "app.focus_previous"),
        bindings.shared("move.right", "app.focus_next"),
        bindings.shared("move.up", "app.focus_previous"),
        bindings.shared("move.down", "app.focus_next"),
        *bindings.scrolling()[2:],
    ]

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self.exported = exported

    def compose(self) -> ComposeResult:
        with Vertical(classes="card wide"):
            yield Words(self.exported.path.name, classes="title")
            with VerticalScroll(can_focus=False, classes="long"):
                yield Painted(id="exported-lines")
                for what, command in exports.commands(self.exported):
                    yield Command(what, command)
            with Horizontal(classes="buttons"):
                yield Button(Content(f"{self.shell.key('app.copy')} Copy"), id="copy", name="copy")
                yield Button("Export again", id="again", name="dismiss(True)")
                yield Button("Close", id="close", name="dismiss(False)")

    def on_resize(self) -> None:
        if not self.too_small:  # hidden, it stays as it was
            self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        cells = max(20, self.query_one(".long").scrollable_content_region.width)
        self.query_one("#exported-lines", Painted).show(exports.facts(self.exported, cells))
        for one in self.query(Command):
            one.show(exports.command_lines(one.what, one.command, cells - _BAR_CELLS))

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        if isinstance(event.widget, Command):
            for one in self.query(Command):
                one.set_class(one is event.widget, "-marked")

    def action_copy(self) -> None:
        """Copy the marked command, which nothing cuts to the width."""
        self.shell.copy_text(self.query_one("Command.-marked", Command).command)
