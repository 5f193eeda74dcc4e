"""Text drawn from the lines of a view model, and redrawn only when they change."""

from bitnet_tui.remedies import actions_in, in_app
from bitnet_tui.theme import paint
from bitnet_tui.view.offered import said
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.words import Words


class Painted(Words):
    """Has the class `-empty` while there are no lines, so that a stylesheet can hide it."""

    ALLOW_SELECT = True
    _lines: tuple[Line, ...] | None = None

    def show(self, lines: tuple[Line, ...]) -> None:
        if lines != self._lines:
            self._lines = lines
            self.set_class(not lines, "-empty")
            self.update(paint(lines))

    def say(self, text: str, style: str, *names: str) -> None:
        """Show one sentence, or nothing if it is empty, with the keys of these actions, by their ids, to click."""
        self.show(said(in_app(text), style, *names, *actions_in(text)))
