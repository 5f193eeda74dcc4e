"""The step "Machine": what this computer has, and which students it trains and runs well. Nothing is asked."""

from textual.app import ComposeResult
from textual.containers import Vertical

from bitnet_tui.screens.guide.step import Step
from bitnet_tui.view.guide import estimates
from bitnet_tui.view.key_rows import NO_VAULT
from bitnet_tui.widgets.painted import Painted
from bitnet_tui.widgets.words import Words

_NEXT = (
    "The next steps ask for a teacher, a place for a second copy, and a student. "
    "Each has a sensible default: Enter keeps it and continues."
)
_VAULT = "\n\nKeys will be kept in a vault, an encrypted file; its passphrase is asked for at the end."


class MachineStep(Step):
    """Shows what the guide finds out while it is open."""

    step = "machine"

    def compose(self) -> ComposeResult:
        with Vertical(classes="pane left"):
            yield Words("This machine", classes="title")
            yield Painted(id="facts")
        with Vertical(classes="pane right"):
            yield Words("What it can do", classes="title")
            yield Painted(id="fits")
            yield Words(_NEXT, classes="about", id="about")

    def begin(self) -> None:
        self.changed()

    def changed(self) -> None:
        shared = self.guide.shared
        colours = estimates.colour_words(self.app.console.color_system, no_color=self.app.no_color)
        facts = estimates.machine_lines(
            shared.get("machine"),
            shared.get("fits"),
            shared.get("keyring", ""),
            colours,
            failed="fits-problem" in shared,
        )
        self.lines("#facts").show(facts)
        self.query_one("#about", Words).update(_NEXT + (_VAULT if self.guide.keeper == NO_VAULT else ""))
        self.lines("#fits").show(estimates.fit_lines(shared.get("fits"), shared.get("fits-problem", "")))
