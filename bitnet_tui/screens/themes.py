"""Chooses the theme: the one that is highlighted is shown at once, Enter keeps it for next time, Escape goes back."""

from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from bitnet_tui import bindings
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.theme import paint
from bitnet_tui.themes import THEMES
from bitnet_tui.view.experiment_list import legend
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.words import Words

_LABEL_CELLS = 15
_ROWS_WITH_SAMPLE = 22
"""Of the window. In a lower one there is room for the themes and the buttons alone."""
_SAMPLE: tuple[Line, ...] = (
    legend()[:-2],  # all but what has no colour
    line(
        *(part for name, words in (("loss", "total"), ("kl", "KL"), ("ce", "CE"), ("format", "format"))
          for part in (Span("━━ ", f"curve-{name}"), Span(f"{words}   "))),
        Span("┊ A8→A4   ", "flip"),
        Span("label   ", "label"),
        Span(" chosen ", "chosen"),
    ),
)  # fmt: skip


class ThemesScreen(DialogScreen[None]):
    """The list of themes, above a sample of what they colour."""

    CSS_PATH = ["cards.tcss", "themes.tcss"]  # noqa: RUF012
    BINDINGS = [bindings.shared("dialog.close", "leave", "Leave it")]  # noqa: RUF012

    def __init__(self, before: str) -> None:
        super().__init__()
        self._before = before

    def compose(self) -> ComposeResult:
        with Vertical(classes="card themes"):
            yield Words("Theme", classes="title")
            yield Entries(
                *(
                    Option(paint([line(Span(f"{label:<{_LABEL_CELLS}}"), Span(about))]), id=theme.name)
                    for label, (theme, about) in THEMES.items()
                ),
                id="themes",
                markup=False,
            )
            yield Words(paint(_SAMPLE), id="theme-sample")
            with Horizontal(classes="buttons"):
                yield Button("Leave it", id="leave", name="leave")
                yield Button("Keep", id="keep", name="keep", variant="primary")

    def on_mount(self) -> None:
        entries = self.query_one("#themes", OptionList)
        names = [theme.name for theme, _ in THEMES.values()]
        entries.highlighted = names.index(self._before) if self._before in names else 0
        entries.focus()

    def on_resize(self) -> None:
        self.query_one("#theme-sample").display = self.size.height >= _ROWS_WITH_SAMPLE

    def on_option_list_option_highlighted(self, message: OptionList.OptionHighlighted) -> None:
        if message.option_id:
            self.app.theme = message.option_id

    def on_option_list_option_selected(self) -> None:
        self.action_keep()

    def action_leave(self) -> None:
        self.app.theme = self._before
        self.dismiss()

    def action_keep(self) -> None:
        self.shell.use_theme(self.app.theme)
        self.dismiss()
