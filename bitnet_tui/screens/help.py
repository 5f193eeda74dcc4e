"""The help (F1): every key, what the symbols and figures mean; what the screen below it has comes first."""

from collections.abc import Mapping

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen

from bitnet_core.text import wrap
from bitnet_tui import bindings
from bitnet_tui.actions import ACTIONS, TITLES, Action
from bitnet_tui.key_names import keys_text
from bitnet_tui.keymap import remapped
from bitnet_tui.screens.base import BaseScreen, DialogScreen
from bitnet_tui.theme import paint
from bitnet_tui.view.experiment_list import legend_lines
from bitnet_tui.view.glossary import meanings
from bitnet_tui.view.offered import closes
from bitnet_tui.view.spans import Line, Span, line
from bitnet_tui.widgets.buttons import KeyBar, KeyButton
from bitnet_tui.widgets.lists import Reading
from bitnet_tui.widgets.words import Words, titled

_INDENT = 12
_NARROWEST = 20
_TITLE_CELLS = 20
_SHARED = frozenset(one.where for one in ACTIONS if not one.name)
"""What works on many screens comes behind what is a screen's own."""


def places_of(screen: Screen[object]) -> frozenset[str]:
    """Whose keys work on a screen now, as `where` in a row of `ACTIONS`; and the stage that it shows."""
    keys = {(one.binding.id or "").split(".")[0] for one in screen.active_bindings.values() if one.enabled}
    return frozenset(keys | ({screen.chosen_stage} if isinstance(screen, BaseScreen) else set()))


def help_lines(
    width: int, actions: tuple[Action, ...] = ACTIONS, here: frozenset[str] = frozenset()
) -> tuple[Line, ...]:
    """The whole text, what a key does wrapped beside the key. What works `here` comes first, an open tab's before.

    Behind it comes what the figures mean that are shown here.
    """
    lines: list[Line] = []
    figures, others = meanings(here)
    mine = sorted((one for one in reversed(TITLES) if one in here - _SHARED), key=lambda where: where == "app")
    for place, where in enumerate((*mine, *(one for one in TITLES if one not in here))):
        if figures and place == len(mine):
            lines += [*_figures("Figures on this screen", figures, width), ()]
        lines.append(line(Span(TITLES[where], "title")))
        # Two actions with one key and one tooltip are listed once.
        rows = dict.fromkeys((keys_text(one), one.tooltip) for one in actions if one.where == where)
        for keys, what in rows:
            lines += _row(keys, what, width)
        lines.append(())
    lines.append(line(Span("Symbols", "title")))
    lines += legend_lines()
    lines += [(), *_figures("Figures", others, width)]
    return tuple(lines)


def _figures(title: str, figures: Mapping[str, str], width: int) -> list[Line]:
    rows = (one for name, what in figures.items() for one in _row(name, what, width))
    return [line(Span(title, "title")), *rows]


def _row(keys: str, what: str, width: int) -> list[Line]:
    rows = wrap(what, max(_NARROWEST, width - _INDENT))
    first, *others = rows if len(keys) < _INDENT - 2 else ("", *rows)
    return [
        line(Span(f"  {keys:<{_INDENT - 3}}", "key"), Span(f" {first}")),
        *(line(Span(f"{'':{_INDENT}}{other}")) for other in others),
    ]


class HelpScreen(DialogScreen[None]):
    """The text, which scrolls. `here` says whose keys work on the screen below."""

    CSS_PATH = ["cards.tcss", "help.tcss"]  # noqa: RUF012
    BINDINGS = [  # noqa: RUF012
        bindings.shared("dialog.close", "dismiss", keys="escape,q,enter"),
        bindings.shared("app.help", "dismiss"),
    ]

    def __init__(self, here: frozenset[str]) -> None:
        super().__init__()
        self._here = here

    def compose(self) -> ComposeResult:
        with Vertical(classes="card page help"):
            with KeyBar(field=_TITLE_CELLS):
                yield Words(titled("Help", closes()), classes="title")
                yield KeyButton("All actions", "app.actions")
            with Reading(id="help-text"):
                yield Words(id="help-words")

    def on_mount(self) -> None:
        self.query_one("#help-text").focus()

    def on_resize(self) -> None:
        if not self.too_small:  # hidden, it stays as it was
            self.call_after_refresh(self._draw)

    def _draw(self) -> None:
        width = self.query_one("#help-text").scrollable_content_region.width
        self.query_one("#help-words", Words).update(
            paint(help_lines(width, remapped(self.shell.keymap.keys), self._here))
        )
