"""A slow terminal: what each cell shows, and in which look. It passes over what the app does not draw with."""

import codecs
import re
from collections.abc import Iterator

from rich.cells import cell_len, get_character_cell_size

_SEQUENCE = re.compile(
    r"\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]P].*?(?:\x07|\x1b\\)|\x1b[()].|\x1b[=>78]|([\r\n])|[\x00-\x1f\x7f]|(.)",
    re.DOTALL,
)
_CUT = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]P][^\x07\x1b]*\x1b?|[()])?\Z")
Look = tuple[object, ...]


class Emulator:
    """`write` takes any pieces of what is written; they may cut a sequence or a sign."""

    def __init__(self) -> None:
        self.cells: dict[tuple[int, int], tuple[str, Look]] = {}
        self._decoder, self._rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        self._y = self._x = 0
        self._attributes: tuple[str, ...] = ()
        self._colours = {"3": "39", "4": "49"}

    def write(self, piece: str | bytes) -> None:
        text = self._rest + (piece if isinstance(piece, str) else self._decoder.decode(piece))
        cut = _CUT.search(text)
        text, self._rest = (text[: cut.start()], cut[0]) if cut else (text, "")
        for found in _SEQUENCE.finditer(text):
            numbers, kind, end, sign = found.groups()
            if kind == "H":
                self._y, self._x = (int(one or 1) - 1 for one in [*numbers.split(";"), "1"][:2])
            elif kind == "C":
                self._x += int(numbers or 1)
            elif kind == "J" or (kind == "h" and numbers == "?1049"):
                self.cells.clear()
            elif kind == "m":
                self._switch(iter(numbers.split(";")))
            elif end:
                self._y, self._x = (self._y, 0) if end == "\r" else (self._y + 1, self._x)
            elif sign:
                self._put(sign)

    @property
    def text(self) -> str:
        """All lines, each without the blanks at its end."""
        rows: dict[int, dict[int, str]] = {}
        for (y, x), (sign, _) in self.cells.items():
            rows.setdefault(y, {})[x] = sign
        lines = ["".join(row.get(x, " ") for x in range(max(row) + 1)).rstrip() for _, row in sorted(rows.items())]
        return "\n".join(lines)

    def _switch(self, codes: Iterator[str]) -> None:
        for code in codes:
            if code in ("", "0"):
                self._attributes, self._colours = (), {"3": "39", "4": "49"}
            elif code in ("38", "48"):
                many = {"2": 3, "5": 1}[kind := next(codes)]
                self._colours[code[0]] = ";".join([code, kind, *(next(codes) for _ in range(many))])
            elif int(code) >= 30:
                self._colours["3" if code[0] in "39" else "4"] = code
            else:
                self._attributes = (*self._attributes, code)

    def _put(self, sign: str) -> None:
        width, look = get_character_cell_size(sign), (self._attributes, *self._colours.values())
        if width == 0:
            before, of = self.cells.get((self._y, self._x - 1), (" ", ()))
            self.cells[self._y, self._x - 1] = (before + sign, of)
            return
        for place in range(width):
            self._clear(self._y, self._x + place)
            self.cells[self._y, self._x + place] = (sign if place == 0 else "", look)
        self._x += width

    def _clear(self, y: int, x: int) -> None:
        """Of a wide sign that loses one half nothing stays."""
        sign, look = self.cells.get((y, x), (" ", ()))
        if sign == "":
            self.cells[y, x - 1] = (" ", look)
        elif cell_len(sign) == 2:
            self.cells[y, x + 1] = (" ", look)
