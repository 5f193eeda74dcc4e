"""Shows every action with its id and keys, the file in which a user gives them others, and what is wrong with it."""

from textual.app import ComposeResult
from textual.containers import Vertical

from bitnet_core.errors import BitnetError
from bitnet_core.text import pad
from bitnet_tui import bindings, keymap
from bitnet_tui.actions import TITLES
from bitnet_tui.key_names import keys_text
from bitnet_tui.keymap import Keymap
from bitnet_tui.screens.base import DialogScreen
from bitnet_tui.theme import paint
from bitnet_tui.view.offered import closes
from bitnet_tui.view.spans import Line, Span, line, short
from bitnet_tui.widgets.lists import Reading
from bitnet_tui.widgets.words import Words, titled

_ID_CELLS, _KEY_CELLS = 26, 22


def keymap_lines(found: Keymap) -> tuple[Line, ...]:
    """The whole text."""
    try:
        where = short(keymap.place())
    except BitnetError as error:
        where = str(error)
    lines: list[Line] = [
        line(Span("To give actions other keys, write lines such as these into the file below, and restart the app.")),
        (),
        line(Span('  "experiment.run" = "f5"', "key")),
        line(Span('  "app.theme" = ["f6", "f7"]', "key")),
        (),
        line(Span(f"  {where}", "value")),
    ]
    lines += [line(Span(f"✗ {problem}", "bad")) for problem in found.problems]
    actions = keymap.remapped(found.keys)
    for place, title in TITLES.items():
        lines += [(), line(Span(title, "title"))]
        for one in actions:
            if one.where == place:
                style = "accent" if one.id in found.keys else "key"
                parts = (Span(f"  {pad(one.id, _ID_CELLS)}"), Span(pad(keys_text(one), _KEY_CELLS), style))
                lines.append(line(*parts, Span(one.label, "label")))
    return tuple(lines)


class KeymapScreen(DialogScreen[None]):
    """The text, which scrolls."""

    CSS_PATH = "cards.tcss"
    BINDINGS = [bindings.shared("dialog.close", "dismiss", keys="escape,q,enter,K")]  # noqa: RUF012

    def __init__(self, found: Keymap) -> None:
        super().__init__()
        self._found = found

    def compose(self) -> ComposeResult:
        with Vertical(classes="card page"):
            yield Words(titled("Keys", closes()), classes="title")
            with Reading(id="keymap-text"):
                yield Words(paint(keymap_lines(self._found)))

    def on_mount(self) -> None:
        self.query_one("#keymap-text").focus()
