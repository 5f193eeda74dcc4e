"""Chooses the theme: the one that is highlighted is shown at once.

Enter, a double click or Keep keeps it for next time; Escape or Cancel goes back to the one before.
"""

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, OptionList
from textual.widgets.option_list import Option

from bitnet_tui import bindings
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.theme import paint
from bitnet_tui.themes import THEMES
from bitnet_tui.view.chart_text import letter
from bitnet_tui.view.experiment_list import legend
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.chart import with_letters
from bitnet_tui.widgets.lists import Entries
from bitnet_tui.widgets.words import Words

_LABEL_CELLS = 15
_ROWS_WITH_SAMPLE = 22
"""Of the window. In a lower one there is room for the themes and the buttons alone."""
_CURVES = (("loss", "total"), ("kl", "KL"), ("ce", "CE"), ("format", "format"))


def _sample(*, letters: bool) -> tuple[Line, ...]:
    """What a theme colours: states, and the curves with their letters or without."""
    curves = (
        part
        for name, words in _CURVES
        for part in (Span(f"{letter(name) if letters else '━━':<2} ", f"curve-{name}"), Span(f"{words}   "))
    )
    return (
        legend()[:-2],  # all but what has no colour
        line(*curves, Span("┊ A8→A4   ", "flip"), Span("label   ", "label"), Span(" chosen ", "chosen")),
    )


class _Themes(Entries):
    """Themes to look at: a click highlights one, a second one selects it."""

    async def _on_click(self, event: events.Click) -> None:
        place = event.style.meta.get("option")
        if event.chain > 1 and place == self.highlighted:
            await super()._on_click(event)
            return
        event.prevent_default()  # Textual's own handler, which would select it
        if place is not None and place < self.option_count:
            self.highlighted = place


class ThemesScreen(DialogScreen[None]):
    """The list of themes, above a sample of what they colour."""

    CSS_PATH = ["cards.tcss", "themes.tcss"]  # noqa: RUF012
    BINDINGS = [bindings.shared("dialog.close", "leave", "Cancel")]  # noqa: RUF012

    def __init__(self, before: str) -> None:
        super().__init__()
        self._before = before

    def compose(self) -> ComposeResult:
        with Vertical(classes="card themes"):
            yield Words("Theme", classes="title")
            yield _Themes(
                *(
                    Option(paint([line(Span(f"{label:<{_LABEL_CELLS}}"), Span(about))]), id=theme.name)
                    for label, (theme, about) in THEMES.items()
                ),
                id="themes",
                markup=False,
            )
            yield Words(self._sample(), id="theme-sample")
            with Horizontal(classes="buttons"):
                yield Button("Cancel", id="leave", name="leave")
                yield Button("Keep", id="keep", name="keep", variant="primary")

    def _sample(self) -> Content:
        return paint(_sample(letters=with_letters(self.app)))

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
            self.query_one("#theme-sample", Words).update(self._sample())

    def on_option_list_option_selected(self) -> None:
        self.action_keep()

    def action_leave(self) -> None:
        self.app.theme = self._before
        self.dismiss()

    def action_keep(self) -> None:
        self.shell.use_theme(self.app.theme)
        self.dismiss()
