"""The list of stages: a column beside the run, or one line above it on a narrow screen."""

from typing import ClassVar

from textual import events
from textual.app import RenderResult
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget

from bitnet_tui import bindings
from bitnet_tui.theme import paint
from bitnet_tui.view import stage_text
from bitnet_tui.view.stage_rows import StageRow


class StageList(Widget, can_focus=True):
    """Reports which stage was clicked; the screen decides which one is shown as chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.up", "screen.move_stage(-1)", "Stage before"),
        bindings.shared("move.left", "screen.move_stage(-1)", "Stage before"),
        bindings.shared("move.down", "screen.move_stage(1)", "Next stage"),
        bindings.shared("move.right", "screen.move_stage(1)", "Next stage", footer=True),
    ]

    class Chosen(Message):
        """The user clicked on a stage. Keys act on the screen directly, so that every press in a burst counts."""

        def __init__(self, stage: str) -> None:
            super().__init__()
            self.stage = stage

    _rows: tuple[StageRow, ...] = ()
    _chosen = ""

    def show(self, rows: tuple[StageRow, ...], chosen: str) -> None:
        if (rows, chosen) != (self._rows, self._chosen):
            self._rows, self._chosen = rows, chosen
            self.refresh()

    @property
    def _as_column(self) -> bool:
        return self.content_size.height > 2

    def render(self) -> RenderResult:
        cells = self.content_size.width
        if self._as_column:
            return paint(stage_text.column(self._rows, self._chosen, cells, focused=self.has_focus))
        return paint([stage_text.strip(self._rows, self._chosen, cells, focused=self.has_focus)])

    def on_click(self, event: events.Click) -> None:
        place = event.get_content_offset(self)  # without the padding
        if place is None:
            return
        name = stage_text.at(self._rows, place.x, place.y, self.content_size.width, as_column=self._as_column)
        if name is not None:
            self.post_message(self.Chosen(name))

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
