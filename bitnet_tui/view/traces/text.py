"""The text of a trace, token by token, broken into lines: which token each cell shows, and how a cursor moves."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bitnet_core.text import head, printable, width
from bitnet_tui.view.spans import Line, Span
from bitnet_tui.view.traces.found import Shading, Token
from bitnet_tui.view.traces.lines import shade

_NO_TEXT, _LINE_END = "·", "↵"
SIGN_CELLS = 2
"""Cells beside the text for the sign that there is more of it."""


@dataclass(frozen=True)
class Piece:
    """A part of a token on one line, from cell `begin` on."""

    position: int
    text: str
    begin: int

    @property
    def end(self) -> int:
        return self.begin + width(self.text)


@dataclass(frozen=True)
class Laid:
    """Tokens laid out in lines of at most `cells`. A word moves to the next line whole if it fits there."""

    tokens: Sequence[Token]
    cells: int

    @cached_property
    def lines(self) -> tuple[tuple[Piece, ...], ...]:
        cells = max(2, self.cells)
        lines: list[list[Piece]] = [[]]
        used = 0
        for word in _words(self.tokens):
            if used and used + sum(width(text) for _, text in word) > cells:
                lines.append([])
                used = 0
            for position, text in word:
                rest = text.lstrip(" ") or text if not used else text
                while rest:
                    if used >= cells:
                        lines.append([])
                        used = 0
                    part = head(rest, cells - used) or rest[:1]
                    if width(part) > cells - used and used:  # a wide character at the end of a line
                        used = cells
                        continue
                    lines[-1].append(Piece(position, part, used))
                    used += width(part)
                    rest = rest[len(part) :]
                if text.endswith(_LINE_END):
                    lines.append([])
                    used = 0
        return tuple(tuple(one) for one in lines if one)

    @cached_property
    def _row_of(self) -> dict[int, int]:
        rows: dict[int, int] = {}
        for row, pieces in enumerate(self.lines):
            for piece in pieces:
                rows.setdefault(piece.position, row)
        return rows

    def row(self, position: int) -> int:
        """The line on which a token begins."""
        return self._row_of.get(position, 0)

    def at(self, x: int, row: int) -> int | None:
        """The token that a cell shows; beside a line's end its last one. None below the text."""
        if not 0 <= row < len(self.lines):
            return None
        pieces = self.lines[row]
        return next((one.position for one in pieces if x < one.end), pieces[-1].position)

    def moved(self, position: int, rows: int) -> int:
        """The token some lines above or below, in the same column as far as there is one."""
        row = self.row(position)
        begin = next((one.begin for one in self.lines[row] if one.position == position), 0) if self.lines else 0
        target = max(0, min(len(self.lines) - 1, row + rows))
        found = self.at(begin, target)
        return position if found is None else found

    def drawn(self, first: int, rows: int, cursor: int, shading: Shading) -> tuple[Line, ...]:
        """Lines from `first` on. The cursor's token is inverted, in its shade if it has one, wherever the focus is.

        Behind the first and the last line stands a sign where there is more text.
        """
        found = self.lines[first : first + rows]
        lines: list[Line] = []
        for row, pieces in enumerate(found):
            above, below = not row and first > 0, row == rows - 1 and first + rows < len(self.lines)
            spans = (Span(one.text, self._style(one, shading, chosen=one.position == cursor)) for one in pieces)
            lines.append((*spans, *self._more(pieces, above=above, below=below)))
        return tuple(lines)

    def _more(self, pieces: Sequence[Piece], *, above: bool, below: bool) -> Line:
        """The sign at the right edge that there is more text above or below."""
        if not (above or below):
            return ()
        sign = "↕" if above and below else "↑" if above else "↓"
        return Span(" " * (self.cells - pieces[-1].end + SIGN_CELLS - 1)), Span(sign, "key")

    def _style(self, piece: Piece, shading: Shading, *, chosen: bool) -> str:
        shaded = shade(self.tokens[piece.position].value(shading), shading)
        return shaded if not chosen else f"chosen-{shaded}" if shaded else "chosen"


def _words(tokens: Sequence[Token]) -> Iterator[list[tuple[int, str]]]:
    """Tokens that belong together: a new word begins with a space or behind a line's end."""
    word: list[tuple[int, str]] = []
    for one in tokens:
        for text in _visible(one.text):
            if word and (text.startswith(" ") or word[-1][1].endswith(_LINE_END)):
                yield word
                word = []
            word.append((one.position, text))
    if word:
        yield word


def _visible(text: str) -> Iterator[str]:
    """A token's text with a sign for each end of a line and for no text; in parts that end with such a line's end."""
    *whole, rest = printable(text).split("\n")
    yield from (f"{part}{_LINE_END}" for part in whole)
    if rest or not whole:
        yield rest if width(rest) else _NO_TEXT
