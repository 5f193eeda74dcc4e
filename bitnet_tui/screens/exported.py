"""A dialog about one export: where it is, how to take it elsewhere, what to type there."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button

from bitnet_core.runs.exports import Exported
from bitnet_tui import bindings
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.view import exports
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words


class ExportedScreen(DialogScreen[bool]):
    """Returns True to export it again."""

    CSS_PATH = "cards.tcss"
    AUTO_FOCUS = "#close"
    BINDINGS = [  # noqa: RUF012
        bindings.shared("dialog.close", "dismiss(False)"),
        bindings.shared("app.copy", "copy"),
        bindings.shared("move.left", "app.focus_previous"),
        bindings.shared("move.right", "app.focus_next"),
        *bindings.scrolling(),
    ]

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self.exported = exported

    def compose(self) -> ComposeResult:
        with Vertical(classes="card wide"):
            yield Words(self.exported.path.name, classes="title")
            with VerticalScroll(can_focus=False, classes="long"):
                yield Painted(id="exported-lines")
            with Horizontal(classes="buttons"):
                yield Button(Content(f"Copy ({self.shell.key('app.copy')})"), id="copy", name="copy")
                yield Button("Export again", id="again", name="dismiss(True)")
                yield Button("Close", id="close", name="dismiss(False)")

    def on_resize(self) -> None:
        self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        cells = max(20, self.query_one(".long").scrollable_content_region.width)
        self.query_one("#exported-lines", Painted).show(exports.card_lines(self.exported, cells))

    def action_copy(self) -> None:
        """Copy the commands, which nothing cuts to the width."""
        self.shell.copy_text(exports.commands(self.exported))
