"""What the terminal shows, cell by cell, so that only what changes is written.

Textual writes each line of a widget whole, with all colours for each piece of text.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from rich.cells import get_character_cell_size
from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

_GAP = 4
"""Up to this many unchanged cells are written again rather than skipped: moving the cursor takes as many bytes."""
_FOREGROUND = re.compile(r"(?:^|;)(38;2;\d+;\d+;\d+|38;5;\d+|3\d|9\d)$")
_BACKGROUND = re.compile(r"(?:^|;)(48;2;\d+;\d+;\d+|48;5;\d+|4\d|10\d)$")
_Cell = tuple[str, Style | None]


class _Look(NamedTuple):
    """The codes that switch a style on, where none is on."""

    attributes: str = ""
    foreground: str = ""
    background: str = ""


_PLAIN = _Look()


class Cells:
    """The cells of one terminal. It is written only by what `changes` returns."""

    def __init__(self) -> None:
        self._rows: dict[int, dict[int, _Cell]] = {}

    def changes(self, update: Any) -> Any:
        """An update that writes no more than has changed; anything else is returned as it is.

        One of the whole screen is written whole: that also repairs what others have written to the terminal.
        """
        return _Changes(self, update) if isinstance(update, ChopsUpdate | LayoutUpdate) else update

    def written(self, update: ChopsUpdate | LayoutUpdate, console: Console) -> str:
        """What draws the update; from now on it is what the terminal shows."""
        pen = _Pen(console)
        if isinstance(update, LayoutUpdate):
            self._rows.clear()
        for y, x, strip in _pieces(update):
            self._write(pen, y, x, strip)
        return pen.done()

    def _write(self, pen: "_Pen", y: int, x: int, strip: Strip) -> None:
        shown, cells = self._rows.setdefault(y, {}), _cells(strip)
        if cells is None:
            pen.draw_whole(y, x, strip)
            # What stands behind may have been moved, and a first sign without a width has changed the cell before.
            for place in [one for one in shown if one >= x - 1]:
                del shown[place]
            return
        changed = [place for place, cell in enumerate(cells, x) if shown.get(place) != cell]
        for first, last in _runs(changed):
            pen.draw(y, first, cells[first - x : last + 1 - x])
        shown.update(enumerate(cells, x))


class _Changes(CompositorUpdate):
    def __init__(self, cells: Cells, update: ChopsUpdate | LayoutUpdate) -> None:
        self._cells = cells
        self._update = update

    def render_segments(self, console: Console) -> str:
        return self._cells.written(self._update, console)


class _Pen:
    """Writes cells, and remembers where it is and which colours it has."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._system = console._color_system or ColorSystem.TRUECOLOR
        self._written: list[str] = []
        self._look = _PLAIN
        self._place: tuple[int, int] | None = None

    def draw(self, y: int, x: int, cells: Sequence[_Cell]) -> None:
        """Write these cells, beginning at a place."""
        self._move(y, x)
        before: Style | None = None
        for place, (sign, style) in enumerate(cells):
            if place == 0 or style is not before:
                self._take(_look(style, self._system) if style else _PLAIN)
                before = style
            self._written.append(sign)
        self._place = y, x + len(cells)

    def draw_whole(self, y: int, x: int, strip: Strip) -> None:
        """Write a strip as Textual does. Terminals differ in the widths of its signs, so its last cell is unknown."""
        self._move(y, x)
        self._take(_PLAIN)
        self._written.append(strip.render(self._console))
        self._place = None

    def done(self) -> str:
        """All that was written, with the colours switched off."""
        self._take(_PLAIN)
        return "".join(self._written)

    def _take(self, look: _Look) -> None:
        if look != self._look:
            self._written.append(_change(self._look, look))
            self._look = look

    def _move(self, y: int, x: int) -> None:
        if self._place and self._place[0] == y and x > self._place[1]:
            self._written.append(f"\x1b[{x - self._place[1]}C")
        elif self._place != (y, x):
            self._written.append(f"\x1b[{y + 1};{x + 1}H")


def _pieces(update: ChopsUpdate | LayoutUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Row, column and content of what the update draws, as Textual draws it."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            x = update.region.x
            for piece in line:
                yield y, x, piece
                x += piece.cell_length
        return
    for y, first, last in update.spans:
        for end, (x, strip) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
            if strip is not None and x <= last and end > first:
                whole = first <= x < last and end <= last
                yield y, x, strip if whole else strip.crop(0, min(end, last) - x)


def _cells(strip: Strip) -> list[_Cell] | None:
    """One entry for each cell; None if a sign is not one cell wide, or is a link."""
    found: list[_Cell] = []
    for text, style, control in strip:
        if control or (style and style.link) or not _is_simple(text):
            return None
        found += [(char, style) for char in text]
    return found


@lru_cache(maxsize=4096)
def _is_simple(text: str) -> bool:
    return text.isascii() or all(get_character_cell_size(char) == 1 for char in text)


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The first and the last place of each run; a gap of up to `_GAP` places does not end a run."""
    first = before = None
    for place in places:
        if first is None or before is None:
            first = place
        elif place - before > _GAP + 1:
            yield first, before
            first = place
        before = place
    if first is not None and before is not None:
        yield first, before


@lru_cache(maxsize=4096)
def _look(style: Style, system: ColorSystem) -> _Look:
    """The codes of what Textual writes before a text in this style."""
    codes = Strip.render_style(style, "\0", system).partition("\0")[0].removeprefix("\x1b[").removesuffix("m")
    background = _BACKGROUND.search(codes)
    codes = codes[: background.start()] if background else codes
    foreground = _FOREGROUND.search(codes)
    codes = codes[: foreground.start()] if foreground else codes
    return _Look(codes, foreground[1] if foreground else "", background[1] if background else "")


@lru_cache(maxsize=4096)
def _change(old: _Look, new: _Look) -> str:
    """What leads from one look to another. Attributes can't be switched off one by one."""
    if new == _PLAIN:
        return "\x1b[0m"
    if old.attributes != new.attributes:
        return f"\x1b[{';'.join(filter(None, ('0', *new)))}m"
    foreground = (new.foreground or "39") if old.foreground != new.foreground else ""
    background = (new.background or "49") if old.background != new.background else ""
    return f"\x1b[{';'.join(filter(None, (foreground, background)))}m"
