"""The help (F1): every key, from the table of actions, and what the symbols mean."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical, VerticalScroll

from bitnet_tui.actions import ACTIONS, TITLES, keys_text
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.theme import paint
from bitnet_tui.view.experiment_list import legend_lines
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.words import Words

_MOVING = (
    ("↑ ↓ j k", "Move in a list; ← → h l along the stages on a narrow screen"),
    ("tab", "Go to the next part of the screen"),
    ("ctrl+p", "Command palette: find an action by its name"),
)


def help_lines() -> tuple[Line, ...]:
    """The whole text."""
    lines: list[Line] = []
    for where, title in TITLES.items():
        lines.append(line(Span(title, "title")))
        lines += [
            line(Span(f"  {keys_text(one):<9}", "key"), Span(f" {one.tooltip}"))
            for one in ACTIONS
            if one.where == where
        ]
        if where == "app":
            lines += [line(Span(f"  {keys:<9}", "key"), Span(f" {what}")) for keys, what in _MOVING]
        lines.append(())
    lines.append(line(Span("Symbols", "title")))
    lines += legend_lines()
    return tuple(lines)


class HelpScreen(DialogScreen[None]):
    """The text, which scrolls."""

    CSS_PATH = ["cards.tcss", "help.tcss"]  # noqa: RUF012
    BINDINGS = [Binding("escape,q,question_mark,f1,enter", "dismiss", "Close", id="help.close")]  # noqa: RUF012

    def compose(self) -> ComposeResult:
        with Vertical(classes="card help"):
            yield Words("Help    esc closes, ↑ ↓ scroll", classes="title")
            with VerticalScroll(id="help-text"):
                yield Words(paint(help_lines()))

    def on_mount(self) -> None:
        self.query_one("#help-text").focus()
