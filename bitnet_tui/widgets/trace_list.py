"""The list of traces: any number of them, of which only the rows around what is seen are in memory."""

from typing import ClassVar

from textual import events
from textual.app import RenderResult
from textual.binding import BindingType
from textual.message import Message
from textual.widget import Widget

from bitnet_tui import bindings
from bitnet_tui.theme import paint
from bitnet_tui.view.titles import column_at
from bitnet_tui.view.traces.columns import Order, heading, layout
from bitnet_tui.view.traces.found import Page, Row
from bitnet_tui.view.traces.lines import prompt_line, row_line

PAGE = 100
_MOST_PAGES = 8


class TraceList(Widget, can_focus=True):
    """It asks for the pages that it lacks, and says which trace is highlighted."""

    BINDINGS: ClassVar[list[BindingType]] = [
        bindings.shared("move.up", "move(-1)", "Trace before"),
        bindings.shared("move.down", "move(1)", "Next trace"),
        bindings.shared("move.page_up", "page(-1)", "Page up"),
        bindings.shared("move.page_down", "page(1)", "Page down"),
        bindings.shared("move.first", "edge(0)", "First trace"),
        bindings.shared("move.last", "edge(1)", "Last trace"),
        bindings.shared("move.choose", "enter", "Its tokens"),
        bindings.shared("move.right", "enter", "Its tokens"),
    ]

    class Missing(Message, bubble=True):
        """The rows of the page that begins at `offset` are needed."""

        def __init__(self, offset: int) -> None:
            super().__init__()
            self.offset = offset

    class Highlighted(Message, bubble=True):
        """Another trace is highlighted. The user has `chosen` it, or it is there because the list was read."""

        def __init__(self, row: Row, *, chosen: bool) -> None:
            super().__init__()
            self.row, self.chosen = row, chosen

    class Entered(Message, bubble=True):
        """The user wants to look at the highlighted trace."""

    class TitleClicked(Message, bubble=True):
        """The title of a column was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self) -> None:
        super().__init__(id="trace-list")
        self._order = Order("number")
        self._pages: dict[int, list[Row]] = {}
        self._asked: set[int] = set()
        self._matched = 0
        self._scored = False
        self._place = 0
        self._top = 0
        self._told: int | None = None
        self._chosen = False
        """Whether the user went to the highlighted place, and no message has said so yet."""
        self._pressed_folded = False
        """Whether the press of the mouse only unfolds the list, which moves what is under it."""
        self._sought: int | None = None
        """The trace whose place is asked for: until it is known, no other is told."""

    @property
    def row(self) -> Row | None:
        return self._row(self._place)

    def _row(self, place: int) -> Row | None:
        rows = self._pages.get(place // PAGE, [])
        return rows[place % PAGE] if place % PAGE < len(rows) else None

    def forget(self) -> None:
        """Start over: another search or order, or the traces have changed."""
        self._pages, self._asked, self._place, self._top, self._told = {}, set(), 0, 0, None
        self._sought, self._chosen = None, False

    def sorted_by(self, order: Order) -> None:
        """What the titles say of the order."""
        if order != self._order:
            self._order = order
            self.refresh()

    def seek(self, prompt_idx: int) -> None:
        """The page with this trace is asked for; when it arrives, its row is highlighted unless one has gone on."""
        self._sought = prompt_idx

    def take(self, page: Page, around: int | None = None) -> None:
        """A page has arrived, asked for by its place or with the trace `around`."""
        self._matched, self._scored = page.matched, page.scored is not None
        number = page.offset // PAGE
        self._pages[number] = page.sequences
        self._asked.clear()  # of those that waited, only the newest was asked
        while len(self._pages) > _MOST_PAGES:
            del self._pages[max(self._pages, key=lambda one: abs(one - number))]
        if around is not None and around == self._sought:
            self._sought = None
            if page.at is not None:
                self._place, self._told = page.at, around
        self._show()

    def _show(self) -> None:
        """Keep the highlighted row in sight, ask for what is missing, tell what is highlighted."""
        self._place = max(0, min(self._matched - 1, self._place))
        rows = max(1, self.content_size.height - 1)
        self._top = max(min(self._top, self._place), self._place - rows + 1)
        self._top = max(0, min(self._top, self._matched - rows))
        for place in (self._top, self._top + rows - 1, self._place):
            number = place // PAGE
            if place < self._matched and number not in self._pages and number not in self._asked:
                self._asked.add(number)
                self.post_message(self.Missing(number * PAGE))
        if self._sought is None and (row := self.row) is not None:
            if row.prompt_idx != self._told:
                self._told = row.prompt_idx
                self.post_message(self.Highlighted(row, chosen=self._chosen))
            self._chosen = False
        self.refresh()

    def on_resize(self) -> None:
        if self._matched:
            self._show()

    def render(self) -> RenderResult:
        cells, rows = self.content_size
        if self._folded:
            style = "chosen" if self.has_focus else "title"
            return paint([] if self.row is None else [prompt_line(self.row, cells, style)])
        lines = [heading(cells, self._order, scored=self._scored)]
        for place in range(self._top, min(self._matched, self._top + rows - 1)):
            chosen = ("chosen" if self.has_focus else "chosen-blurred") if place == self._place else ""
            lines.append(row_line(self._row(place), cells, chosen, scored=self._scored))
        return paint(lines)

    @property
    def _folded(self) -> bool:
        """Whether there is room for the highlighted trace alone."""
        return self.content_size.height == 1

    # -- keys and mouse ----------------------------------------------------------------------------------------------

    def _go(self, place: int) -> None:
        self._place, self._sought, self._chosen = place, None, True
        self._show()

    def action_move(self, by: int) -> None:
        self._go(self._place + by)

    def action_page(self, by: int) -> None:
        self.action_move(by * max(1, self.content_size.height - 2))

    def action_edge(self, end: int) -> None:
        self._go(self._matched - 1 if end else 0)

    def action_enter(self) -> None:
        self.post_message(self.Entered())

    def on_mouse_down(self) -> None:
        self._pressed_folded = self._folded

    def on_click(self, event: events.Click) -> None:
        at = event.get_content_offset(self)
        if self._pressed_folded:
            return
        if at is not None and at.y == 0:
            column = column_at(layout(self.content_size.width, scored=self._scored), at.x)
            if column is not None:
                self.post_message(self.TitleClicked(column))
        elif at is not None and self._top + at.y - 1 < self._matched:
            self._go(self._top + at.y - 1)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.action_move(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.action_move(-1)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
