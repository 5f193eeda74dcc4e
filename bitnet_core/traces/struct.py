"""Which bytes of a text are JSON structure or code fences, decided from the text alone.

Structure is the brackets, colons, commas and string quotes of JSON embedded in the text, complete or cut off by the
text's end, and the marks of code fences. It must not know tokens, only their lengths.
"""

import itertools
import re
from collections.abc import Sequence

_FENCE = re.compile(rb"^[ \t]*(`{3,}|~{3,})", re.MULTILINE)
_OPENING = re.compile(rb"[{[]")
_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")
_SCALAR_CUT_OFF = re.compile(rb"[-+.0-9a-zA-Z]*\Z")
_STRING = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"')
_STRING_CUT_OFF = re.compile(
    rb'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z'
)
_SPACE = re.compile(rb"[ \t\r\n]*")
_MAX_DEPTH = 64
_CLOSES = {ord("}"): ord("{"), ord("]"): ord("[")}


def structural_bytes(data: bytes) -> bytearray:
    """A mask with a byte for each byte of `data`: 1 for structure, else 0."""
    mask = bytearray(len(data))
    for fence in _FENCE.finditer(data):
        for place in range(*fence.span(1)):
            mask[place] = 1
    end = 0
    for bracket in _OPENING.finditer(data):
        if bracket.start() >= end:
            scan = _Scan(data, bracket.start())
            scan.run()
            if scan.is_json():
                for mark in scan.marks:
                    mask[mark] = 1
                end = scan.place
    return mask


def structural_tokens(mask: bytes | bytearray, lengths: Sequence[int]) -> list[bool]:
    """Whether any byte of each token is structure; the tokens have these lengths in bytes, in order."""
    ends = itertools.accumulate(lengths)
    return [any(mask[end - length : end]) for length, end in zip(lengths, ends, strict=True)]


class _Scan:
    """One JSON object or array, read from `place` on; `run` moves `place` to its end."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place
        self.marks: list[int] = []
        self.state = "value"
        self.stack: list[int] = []
        self.finished = False
        self.broken = False

    def is_json(self) -> bool:
        """Whether it is more than a footnote `[1]`, a checkbox `[ ]` or a bare `{"word` in prose."""
        if self.broken:
            return False
        if self.finished:
            return len(self.marks) > 2
        return any(self.data[mark] in b":," for mark in self.marks)

    def run(self) -> None:
        while not (self.finished or self.broken):
            self.place = self._after(_SPACE)
            if self.place == len(self.data):
                return
            self._step(self.data[self.place])

    def _step(self, byte: int) -> None:
        state = self.state
        if state in ("value", "value or end") and byte in b"{[":
            self._open(byte)
        elif byte in _CLOSES and state in ("after", "key or end", "value or end"):
            self._close(byte)
        elif state in ("key", "key or end"):
            self._string("colon")
        elif state == "colon" and byte == ord(":"):
            self._mark("value")
        elif state == "after" and byte == ord(","):
            self._mark("key" if self.stack[-1] == ord("{") else "value")
        elif state in ("value", "value or end"):
            self._string("after") if byte == ord('"') else self._scalar()
        else:
            self.broken = True

    def _open(self, byte: int) -> None:
        self.stack.append(byte)
        self.broken = len(self.stack) > _MAX_DEPTH
        self._mark("key or end" if byte == ord("{") else "value or end")

    def _close(self, byte: int) -> None:
        if self.stack.pop() != _CLOSES[byte]:
            self.broken = True
            return
        self._mark("after")
        self.finished = not self.stack

    def _mark(self, state: str) -> None:
        self.marks.append(self.place)
        self.place += 1
        self.state = state

    def _string(self, state: str) -> None:
        whole = _STRING.match(self.data, self.place)
        if whole is not None:
            self.marks += [self.place, whole.end() - 1]
            self.place = whole.end()
            self.state = state
        elif _STRING_CUT_OFF.match(self.data, self.place):
            self.marks.append(self.place)
            self.place = len(self.data)
        else:
            self.broken = True

    def _scalar(self) -> None:
        if _SCALAR_CUT_OFF.match(self.data, self.place):
            self.place = len(self.data)
            return
        end = self._after(_SCALAR)
        self.broken = end == self.place
        self.place = end
        self.state = "after"

    def _after(self, pattern: re.Pattern[bytes]) -> int:
        match = pattern.match(self.data, self.place)
        return match.end() if match else self.place
