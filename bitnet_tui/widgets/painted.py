"""Text that is painted from a view model's lines, and only when they have changed."""

from textual.widgets import Static

from bitnet_tui.theme import paint
from bitnet_tui.view.spans import Line


class Painted(Static):
    """`show` is cheap when nothing has changed; an empty one can take no room (class `-empty`)."""

    ALLOW_SELECT = True
    _lines: tuple[Line, ...] | None = None

    def show(self, lines: tuple[Line, ...]) -> None:
        if lines != self._lines:
            self._lines = lines
            self.set_class(not lines, "-empty")
            self.update(paint(lines))
