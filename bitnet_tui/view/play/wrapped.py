"""A text broken into rows that fit, and which character each cell shows: a click on a cell means a character."""

from dataclasses import dataclass

from bitnet_core.text import printable, width
from bitnet_tui.view.spans import Line, Span

_LINE_END = "↵"
END = "∎"
"""Stands for the token that ends an answer, which has no text."""


@dataclass(frozen=True)
class Row:
    """Signs, each with the offset of the character that it shows."""

    signs: tuple[str, ...]
    offsets: tuple[int, ...]

    def at(self, cell: int) -> int | None:
        """The offset of the character in this cell; of the last one behind the end. None for an empty row."""
        used = 0
        for sign, offset in zip(self.signs, self.offsets, strict=True):
            used += width(sign)
            if cell < used:
                return offset
        return self.offsets[-1] if self.offsets else None

    def cell_of(self, offset: int) -> int:
        """The cell where the character at the offset begins."""
        before = zip(self.signs, self.offsets, strict=True)
        return sum(width(sign) for sign, own in before if own < offset)


def rows_of(text: str, cells: int) -> tuple[Row, ...]:
    """The text in rows of at most `cells` cells, broken behind spaces where that is possible.

    One blank, and the sign of a line end, may stand beyond the last cell.
    """
    cells = max(2, cells)
    rows: list[Row] = []
    signs: list[str] = []
    offsets: list[int] = []
    used = room = 0  # `room`: how many of the signs stay if the row is broken now

    def close(count: int) -> None:
        nonlocal signs, offsets, used, room
        rows.append(Row(tuple(signs[:count]), tuple(offsets[:count])))
        signs, offsets = signs[count:], offsets[count:]
        used, room = sum(map(width, signs)), 0

    for offset, char in enumerate(text):
        if char == "\n":
            signs.append(_LINE_END)
            offsets.append(offset)
            close(len(signs))
            continue
        sign = char if char.isprintable() else printable(char)
        blank = sign.isspace()
        while signs and used + (0 if blank else width(sign)) > cells:
            close(room or len(signs))
        signs.append(sign)
        offsets.append(offset)
        used += width(sign)
        if blank:
            room = len(signs)
    rows.append(Row(tuple(signs), tuple(offsets)))
    return tuple(rows)


def drawn(rows: tuple[Row, ...], chosen: tuple[int, int] | None, *, focused: bool) -> tuple[Line, ...]:
    """The rows with the characters from `chosen` marked. Line ends show only there, unless there is nothing else.

    A model that writes nothing but line ends must not look like one that writes nothing.
    """
    blank = not any(_shows(sign) for row in rows for sign in row.signs)
    begin, end = chosen or (0, 0)
    style = "chosen" if focused else "chosen-blurred"
    return tuple(_line(row, begin, end, style, blank=blank) for row in rows)


def _shows(sign: str) -> bool:
    return sign not in (_LINE_END, END) and not sign.isspace()


def _line(row: Row, begin: int, end: int, style: str, *, blank: bool) -> Line:
    spans: list[Span] = []
    for sign, offset in zip(row.signs, row.offsets, strict=True):
        marked = begin <= offset < end
        ends = sign == _LINE_END
        text = " " if ends and not marked and not blank else sign
        own = style if marked else "faint" if ends else "value"
        if spans and spans[-1].style == own:
            spans[-1] = Span(spans[-1].text + text, own)
        else:
            spans.append(Span(text, own))
    return tuple(spans)
