"""Styled text as plain values: a line is a tuple of spans, a style is a name that the theme explains."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    text: str
    style: str = ""


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def plain(lines: Iterable[Line]) -> str:
    """The text alone, lines joined."""
    return "\n".join("".join(span.text for span in one) for one in lines)


def width(text: str) -> int:
    """Cells that a text takes: wide East Asian characters take two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def head(text: str, cells: int) -> str:
    """The longest beginning that fits."""
    if width(text) <= cells:
        return text
    used = 0
    for place, char in enumerate(text):
        used += width(char)
        if used > cells:
            return text[:place]
    return text


def crop(text: str, cells: int) -> str:
    """Cut to so many cells, with an ellipsis where something is missing."""
    if width(text) <= cells:
        return text
    return head(text, cells - 1) + "…" if cells > 0 else ""


def wrap(text: str, cells: int) -> list[str]:
    """Break at spaces, and inside a word only where it is longer than a line. At least one line."""
    cells = max(2, cells)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        current = ""
        for word in paragraph.split(" "):
            if current and width(current) + 1 + width(word) > cells:
                lines.append(current)
                current = word
            else:
                current = f"{current} {word}" if current else word
            while width(current) > cells:
                first = head(current, cells)
                lines.append(first)
                current = current[len(first) :]
        lines.append(current)
    return lines


def pad(text: str, cells: int, *, right: bool = False) -> str:
    text = crop(text, cells)
    space = " " * (cells - width(text))
    return space + text if right else text + space


def spread(left: Sequence[Span], right: Sequence[Span], cells: int) -> Line:
    """Left and right ends of one line; the right end gives way when both do not fit."""
    used = sum(width(span.text) for span in left)
    free = cells - used - sum(width(span.text) for span in right)
    return (*left, Span(" " * free), *right) if free > 0 else tuple(left)


def printable(text: str) -> str:
    """Text from outside, safe to draw: tabs become spaces, other control characters a visible mark."""
    return "".join(
        char if char == "\n" or char.isprintable() else "    " if char == "\t" else "·" for char in text.expandtabs(4)
    )
