"""Painted lines that a click acts on."""

from textual.events import Click
from textual.message import Message

from bitnet_tui.widgets.painted import Painted


class Pressed(Painted):
    """Tells on which row it was clicked. `action` is what the screen does then."""

    class At(Message):
        def __init__(self, action: str, row: int) -> None:
            super().__init__()
            self.action = action
            self.row = row

    def __init__(self, action: str, *, id: str) -> None:  # noqa: A002 - textual's name
        super().__init__(id=id)
        self._action_name = action

    def on_click(self, event: Click) -> None:
        at = event.get_content_offset(self)
        if at is not None:
            self.post_message(self.At(self._action_name, at.y))
