"""The text of a trace, its tokens shaded, with a cursor on one of them."""

from typing import ClassVar

from textual import events
from textual.app import RenderResult
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from bitnet_tui import bindings
from bitnet_tui.theme import paint
from bitnet_tui.view.traces.found import Shading, Token, Trace
from bitnet_tui.view.traces.text import SIGN_CELLS, Laid


class TokenText(Widget, can_focus=True):
    """Only the lines that are seen are drawn."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.left", "move(-1)", "Previous token"),
        bindings.shared("move.right", "move(1)", "Next token"),
        bindings.shared("move.up", "rows(-1)", "Line above"),
        bindings.shared("move.down", "rows(1)", "Line below"),
        bindings.shared("move.page_up", "page(-1)", "Page up"),
        bindings.shared("move.page_down", "page(1)", "Page down"),
        bindings.shared("move.first", "edge(0)", "First token"),
        bindings.shared("move.last", "edge(1)", "Last token"),
    ]

    class Moved(Message, bubble=True):
        """The cursor is on another token."""

    class Entered(Message, bubble=True):
        """A key has moved the focus here."""

    def __init__(self) -> None:
        super().__init__(id="trace-text")
        self._clicked = False
        self._tokens: list[Token] = []
        self._shading: Shading = "other"
        self._laid = Laid((), 0)
        self._cursor = 0
        self._top = 0

    @property
    def token(self) -> Token | None:
        """The one that the cursor is on."""
        return self._tokens[self._cursor] if self._cursor < len(self._tokens) else None

    def show(self, trace: Trace, shading: Shading, cursor: int) -> None:
        """Another trace, with the cursor on a token."""
        self._tokens, self._shading, self._top = trace.positions, shading, 0
        self._laid = self._lay(self.content_size.width)
        self.go(cursor)
        self.refresh(layout=self.styles.is_auto_height)

    def _lay(self, width: int) -> Laid:
        return Laid(self._tokens, width - SIGN_CELLS)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's
        return len(self._lay(width).lines)

    def shade(self, shading: Shading) -> None:
        self._shading = shading
        self.refresh()

    def go(self, position: int) -> None:
        """Put the cursor on a token and bring it into sight."""
        self._cursor = max(0, min(len(self._tokens) - 1, position))
        row, rows = self._laid.row(self._cursor), max(1, self.content_size.height)
        self._top = max(0, min(max(min(self._top, row), row - rows + 1), len(self._laid.lines) - rows))
        self.post_message(self.Moved())
        self.refresh()

    def on_resize(self) -> None:
        self._laid = self._lay(self.content_size.width)
        if self._tokens:
            self.go(self._cursor)

    def render(self) -> RenderResult:
        return paint(self._laid.drawn(self._top, self.content_size.height, self._cursor, self._shading))

    # -- keys and mouse ----------------------------------------------------------------------------------------------

    def action_move(self, by: int) -> None:
        self.go(self._cursor + by)

    def action_rows(self, by: int) -> None:
        self.go(self._laid.moved(self._cursor, by))

    def action_page(self, by: int) -> None:
        self.action_rows(by * max(1, self.content_size.height - 1))

    def action_edge(self, end: int) -> None:
        self.go(len(self._tokens) - 1 if end else 0)

    def on_focus(self) -> None:
        self.call_later(self._tell_entered)  # behind the press of the mouse that may have brought the focus

    def on_mouse_down(self) -> None:
        self._clicked = True

    def _tell_entered(self) -> None:
        if not self._clicked:
            self.post_message(self.Entered())
        self._clicked = False

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        position = self._laid.at(at.x, self._top + at.y) if at is not None else None
        if position is not None:
            self.go(position)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_rows(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_rows(-1)
