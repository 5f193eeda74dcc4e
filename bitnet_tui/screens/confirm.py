"""A dialog: a question with a yes and a no."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Button

from bitnet_tui import bindings
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.view import offered
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_ELSEWHERE = ("experiment.config", "experiment.checkpoints")
"""What a question may name in place of yes."""


class ConfirmScreen(DialogScreen[bool]):
    """A question with a yes, and Cancel, which leaves everything as it is and says `unchanged`, if it is given.

    The safe answer has the focus: Cancel, unless yes is `harmless`.
    Where yes is `final`, which can't be taken back, its key only goes to the button: Enter, or a click, does it.
    """

    CSS_PATH = "cards.tcss"
    BINDINGS = [  # noqa: RUF012
        bindings.shared("dialog.no", "no"),
        bindings.shared("dialog.yes", "yes"),
        bindings.shared("move.left", "app.focus_previous"),
        bindings.shared("move.right", "app.focus_next"),
        *bindings.scrolling(),
    ]

    def __init__(
        self, what: str, why: str, yes: str, unchanged: str = "", *, final: bool = False, harmless: bool = False
    ) -> None:
        super().__init__()
        self._first = "yes" if harmless else "no"
        self._texts = (what, why, yes)
        self._unchanged = unchanged
        self._final = final

    def compose(self) -> ComposeResult:
        what, _, yes = self._texts
        with Vertical(classes="card"):
            yield Words(what, classes="title")
            with VerticalScroll(can_focus=False, classes="long"):
                yield Painted(id="why")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="no", name="no")
                yield Button(Content(yes), id="yes", name="dismiss(True)")

    def on_mount(self) -> None:
        self.query_one("#why", Painted).show(offered.said(self._texts[1], "", *_ELSEWHERE))
        self.set_focus(self.query_one(f"#{self._first}"))

    def action_no(self) -> None:
        self.dismiss(False)
        if self._unchanged:
            self.app.notify(self._unchanged)

    def action_yes(self) -> None:
        if self._final:
            self.query_one("#yes").focus()
        else:
            self.dismiss(True)
