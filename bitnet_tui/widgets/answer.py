"""One side's answer: who, the text with a token cursor, and how it stands."""

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.events import Click, Resize
from textual.geometry import Region
from textual.message import Message

from bitnet_tui.services.playing import Who
from bitnet_tui.view.play.answers import Answer, places, token_at
from bitnet_tui.view.play.wrapped import END, Row, drawn, rows_of
from bitnet_tui.view.spans import Line
from bitnet_tui.widgets.painted import Painted


class AnswerText(VerticalScroll, can_focus=True, inherit_bindings=False):
    """The text in rows. `chosen` is the token at the cursor, which the keys move that would otherwise scroll."""

    class Picked(Message):
        """A token was chosen with the mouse."""

        def __init__(self, who: Who, token: int) -> None:
            super().__init__()
            self.who = who
            self.token = token

    def __init__(self, who: Who) -> None:
        super().__init__(id=f"{who}-text")
        self.who = who
        self.chosen: int | None = None
        self._answer: Answer | None = None
        self._text = ""
        self._places: tuple[tuple[int, int], ...] = ()
        self._rows: tuple[Row, ...] = ()
        self._cells = 0

    def compose(self) -> ComposeResult:
        yield Painted(classes="words")

    def show(self, answer: Answer | None, chosen: int | None) -> None:
        """Draw what has changed. A growing answer is followed to its end, a chosen token into sight."""
        cells = max(2, self.scrollable_content_region.width - 1)
        if answer is not self._answer or cells != self._cells:
            grew = self._answer is not None and self._answer.active
            self._answer, self._cells = answer, cells
            self._text = answer.text if answer is not None else ""
            self._places = places(answer.tokens, self._text) if answer is not None else ()
            if self._places and self._places[-1] == (len(self._text), len(self._text)):
                self._text += END
            self._rows = rows_of(self._text, cells)
            self._draw(chosen)
            if grew:
                self.scroll_end(animate=False)
        elif chosen != self.chosen:
            self._draw(chosen)
        else:
            return
        if chosen is not None and chosen < len(self._places):
            row = self._row_of(self._places[chosen][0])
            self.scroll_to_region(Region(0, row, 1, 1), animate=False)

    def near(self, token: int | None, by: int) -> int | None:
        """The token `by` rows below this one, in the same cell."""
        if token is None or token >= len(self._places):
            return 0 if self._places else None
        begin = self._places[token][0]
        row = self._row_of(begin)
        target = max(0, min(len(self._rows) - 1, row + by))
        offset = self._rows[target].at(self._rows[row].cell_of(begin))
        found = None if offset is None else token_at(self._places, offset)
        return token if found is None or target == row else found

    @property
    def count(self) -> int:
        """How many tokens can be chosen."""
        return len(self._places)

    def on_focus(self) -> None:
        self._draw(self.chosen)

    def on_blur(self) -> None:
        self._draw(self.chosen)

    def on_resize(self, _: Resize) -> None:
        self.show(self._answer, self.chosen)

    def on_click(self, event: Click) -> None:
        words = self.query_one(Painted)
        at = event.get_content_offset(words)
        if at is None or not 0 <= at.y < len(self._rows):
            return
        offset = self._rows[at.y].at(at.x)
        token = None if offset is None else token_at(self._places, offset)
        if token is not None:
            self.post_message(self.Picked(self.who, token))

    def _row_of(self, offset: int) -> int:
        holding = (number for number, row in enumerate(self._rows) if row.offsets and row.offsets[-1] >= offset)
        return next(holding, max(0, len(self._rows) - 1))

    def _draw(self, chosen: int | None) -> None:
        self.chosen = chosen
        marked = None
        if chosen is not None and chosen < len(self._places):
            begin, end = self._places[chosen]
            marked = (begin, max(end, begin + 1))
        self.query_one(Painted).show(drawn(self._rows, marked, focused=self.has_focus))


class AnswerPane(Vertical):
    """A title, the text, and one sentence below."""

    def __init__(self, who: Who) -> None:
        super().__init__(id=who, classes="answer")
        self.who = who

    def compose(self) -> ComposeResult:
        yield Painted(classes="who")
        yield AnswerText(self.who)
        yield Painted(classes="status")

    @property
    def cells(self) -> int:
        """The width of its title."""
        return max(0, self.content_size.width - 2)

    @property
    def text(self) -> AnswerText:
        return self.query_one(AnswerText)

    def show(self, title: Line, status: Line, answer: Answer | None, chosen: int | None) -> None:
        self.query_one(".who", Painted).show((title,))
        self.query_one(".status", Painted).show((status,))
        self.text.show(answer, chosen)
