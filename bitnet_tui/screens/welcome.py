"""The first run, in a workspace without experiments. Its first button needs no key and no GPU, and asks nothing."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import BindingType
from textual.containers import Center, Vertical
from textual.widget import Widget
from textual.widgets import Button

from bitnet_tui import bindings
from bitnet_tui.screens.base import BaseScreen
from bitnet_tui.view.spans import Line, Span, line, short
from bitnet_tui.widgets.words import Words

_TRY = (
    "A small teacher runs on this machine: baseline, traces, training with the A8→A4 flip, "
    "evaluation and a 7B dry run, in minutes on two cores. The teacher is fetched once (93 MB)."
)
_NEW = "Choose a teacher, a student and a token budget of your own."
_FETCH = "Continue here with an experiment that another machine has stored."


class WelcomeScreen(BaseScreen):
    """Three ways to begin; the first has the focus."""

    CSS_PATH = ["cards.tcss", "welcome.tcss"]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings.of("welcome"),
        bindings.shared("move.down", "app.focus_next"),
        bindings.shared("move.up", "app.focus_previous"),
    ]
    AUTO_FOCUS = "#try"

    def __init__(self) -> None:
        super().__init__(classes="welcome")

    def head(self) -> Line:
        return line(Span("bitnet-tui", "title"), Span("  welcome", "label"))

    def skeleton(self) -> Iterable[Widget]:
        card = Vertical(
            Words("Distil a language model into a ternary student,\nand watch it happen.", classes="lead"),
            Button("Try it now, no key needed", id="try", name="demo"),
            Words(_TRY, classes="about"),
            Button("New experiment", id="new", name="new"),
            Words(_NEW, classes="about"),
            Button("Fetch a stored experiment", id="fetch", name="fetch"),
            Words(_FETCH, classes="about"),
            Words(f"Experiments are kept in {short(self.shell.home)}", classes="place"),
            id="welcome",
        )
        yield Center(card, id="middle")

    def action_fetch(self) -> None:
        from bitnet_tui.screens.guide.fetch import FetchScreen

        self.app.push_screen(
            FetchScreen(self.shell.last_target), lambda made: self.shell.open_experiment(made.root) if made else None
        )
