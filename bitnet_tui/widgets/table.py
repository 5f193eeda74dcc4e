"""Rows of text under a line of titles: a cursor, marks, and what the mouse does. Only lines in sight are drawn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.visual import Visual

from bitnet_tui import bindings
from bitnet_tui.theme import paint
from bitnet_tui.view.spans import Line, Span, unstyled
from bitnet_tui.widgets.painted import Painted

GUTTER = 3
"""Cells before a row's text: the cursor, the mark, a blank."""


@dataclass(frozen=True)
class Row:
    """`key` stays the same while the row moves."""

    key: str
    text: Line
    marked: bool = False


class Titles(Painted):
    """The line above the rows; a click on it is told with its cell."""

    class Clicked(Message):
        def __init__(self, cell: int) -> None:
            super().__init__()
            self.cell = cell

    def on_click(self, event: events.Click) -> None:
        event.stop()
        self.post_message(self.Clicked(event.get_content_offset_capture(self).x - GUTTER))


class Table(ScrollView, can_focus=True):
    """The cursor stays on its row when rows move, come or go."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"table--row", "table--cursor"}
    DEFAULT_CSS = """
    Table {
        overflow-x: hidden;
        text-wrap: nowrap;
        text-overflow: clip;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.up", "move(-1)", "Up"),
        bindings.shared("move.down", "move(1)", "Down"),
        bindings.shared("move.page_up", "page(-1)", "Page up"),
        bindings.shared("move.page_down", "page(1)", "Page down"),
        bindings.shared("move.first", "end(-1)", "Top"),
        bindings.shared("move.last", "end(1)", "End"),
    ]

    class Moved(Message):
        """The cursor is on another row."""

    class RowsChanged(Message):
        """It has more or fewer rows."""

    class Resized(Message):
        """Rows have another width, perhaps that of a scrollbar less."""

    class Chosen(Message):
        """The row under the cursor was clicked again."""

    class Pressed(Message):
        """A row's mark was clicked."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    _rows: tuple[Row, ...] = ()
    _at = 0
    _clicked: str | None = None
    """The row that a click has put the cursor on, and no key since: the next click there opens it."""
    _was_moved = False
    """Until then the cursor is on the first row, while the list is still being read."""
    _strips: dict[tuple[Row, bool], Strip]
    _drawn_for: int | None = None
    """Columns; None: draw all lines again."""

    @property
    def key(self) -> str | None:
        """The row under the cursor."""
        return self._rows[self._at].key if self._rows else None

    @property
    def current(self) -> str:
        """The text of the row under the cursor."""
        return unstyled(self._rows[self._at].text).strip() if self._rows else ""

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; only lines that differ are drawn again."""
        before, at, key = self._rows, self._at, self.key
        self._rows = tuple(rows)
        keys = [row.key for row in rows]
        stays = keys.index(key) if key in keys else max(0, min(at, len(keys) - 1))
        self._at = stays if self._was_moved else 0
        if len(before) != len(rows):
            self.virtual_size = Size(self.scrollable_content_region.width, len(rows))
            self.post_message(self.RowsChanged())
            self.refresh()
        else:
            for y, (old, new) in enumerate(zip(before, rows, strict=True)):
                if old != new:
                    self.refresh_lines(y, 1)
        if self._at != at:
            self.refresh_lines(at, 1)
            self.refresh_lines(self._at, 1)
            self._scroll_to_cursor()
        if self.key != key:
            self.post_message(self.Moved())

    def go_to(self, key: str) -> None:
        """Put the cursor on a row, if it is there."""
        for place, row in enumerate(self._rows):
            if row.key == key:
                self._go(place)

    def _go(self, place: int) -> None:
        place = max(0, min(place, len(self._rows) - 1))
        self._was_moved = True
        self._clicked = None
        if place == self._at or not self._rows:
            return
        for y in (self._at, place):
            self.refresh_lines(y, 1)
        self._at = place
        self._scroll_to_cursor()
        self.post_message(self.Moved())

    def _scroll_to_cursor(self) -> None:
        top, height = self.scroll_offset.y, self.scrollable_content_region.height
        if self._at < top:
            self.scroll_to(y=self._at, animate=False)
        elif height and self._at >= top + height:
            self.scroll_to(y=self._at - height + 1, animate=False)

    def action_move(self, steps: int) -> None:
        self._go(self._at + steps)

    def action_page(self, pages: int) -> None:
        self._go(self._at + pages * max(1, self.scrollable_content_region.height - 1))

    def action_end(self, side: int) -> None:
        self._go(len(self._rows) - 1 if side > 0 else 0)

    def on_resize(self) -> None:
        self.post_message(self.Resized())
        self.virtual_size = Size(self.scrollable_content_region.width, len(self._rows))
        self._scroll_to_cursor()

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if at is None:
            return
        place = at.y + self.scroll_offset.y
        if not 0 <= place < len(self._rows):  # the click is older than the list, or below it
            return
        if at.x < GUTTER:
            self.post_message(self.Pressed(self._rows[place].key))
        elif place == self._at and self._rows[place].key == self._clicked:
            self._clicked = None
            self.post_message(self.Chosen())
        else:
            self._go(place)
            self._clicked = self._rows[place].key

    # -- drawing ---------------------------------------------------------------------------------------------------

    def notify_style_update(self) -> None:
        """With another theme. Below a dialog, lines may have been drawn before the styles: in the colours of both."""
        super().notify_style_update()
        self._drawn_for = None

    def render_line(self, y: int) -> Strip:
        place = y + self.scroll_offset.y
        columns = self.scrollable_content_region.width
        if place >= len(self._rows):
            return Strip.blank(columns, self.get_visual_style("table--row").rich_style)
        if columns != self._drawn_for:
            self._drawn_for, self._strips = columns, {}
        row, chosen = self._rows[place], place == self._at
        strip = self._strips.get((row, chosen))
        if strip is None:
            if len(self._strips) > 4 * max(1, self.size.height):
                self._strips.clear()
            strip = self._strips[row, chosen] = self._drawn(row, columns, chosen=chosen)
        return strip

    def _drawn(self, row: Row, columns: int, *, chosen: bool) -> Strip:
        cursor = Span("▌" if chosen else " ", "accent")
        mark = Span("●", "accent") if row.marked else Span("○", "faint")
        spans: Line = (cursor, mark, Span(" "), *row.text)
        if chosen:  # faint would not be seen on the cursor's background in 16 colours
            spans = tuple(Span(one.text, "label") if one.style == "faint" else one for one in spans)
        text = paint([spans])
        style = self.get_visual_style("table--row", *(["table--cursor"] if chosen else []))
        strips = Visual.to_strips(self, text, columns, 1, style)
        strip = strips[0] if strips else Strip.blank(columns, style.rich_style)
        return strip.extend_cell_length(columns, style.rich_style).crop(0, columns)
