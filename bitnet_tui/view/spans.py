"""Styled text as plain values: a line is a tuple of spans; a style is a name that the theme defines."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec import Struct

from bitnet_core.files.user_folders import NoHome, expanded
from bitnet_core.text import crop, flat, printable, width, wrap

_HINT_GAP = 2


class Span(Struct, frozen=True, gc=False):
    """`action` is what a click on it does, an action of the screen; empty if nothing."""

    text: str
    style: str = ""
    action: str = ""


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def unstyled(*lines: Iterable[Span]) -> str:
    """The text of lines, without their styles."""
    return "\n".join("".join(span.text for span in one) for one in lines)


def cells_of(spans: Iterable[Span]) -> int:
    """How many cells they take."""
    return sum(width(span.text) for span in spans)


def wrapped(lead: str, text: str, style: str, cells: int) -> list[Line]:
    """Wrapped lines, safe to show; the first starts with `lead`, the others are indented to match."""
    indent = " " * width(lead)
    pieces = wrap(printable(text), max(8, cells - width(lead)))
    return [line(Span((indent if place else lead) + piece, style)) for place, piece in enumerate(pieces)]


def first_lines(lines: Sequence[Line], most: int, cells: int) -> tuple[Line, ...]:
    """As many lines as there is room for; the last one tells if there are more."""
    if len(lines) <= most:
        return tuple(lines)
    *kept, last = lines[:most]
    *before, end = last or (Span(""),)
    return (*kept, (*before, Span(crop(f"{end.text} …", cells - cells_of(before)), end.style, end.action)))


def spread(left: Sequence[Span], right: Sequence[Span], cells: int) -> Line:
    """One line with text at both ends; `right` is left out if both do not fit, and `left` is cut if it doesn't."""
    free = cells - cells_of(left) - cells_of(right)
    return (*left, Span(" " * free), *right) if free > 0 else cut(left, cells)


def joined(parts: Sequence[Line], between: str) -> Line:
    """The parts on one line, with these words between them."""
    gap = line(Span(between, "label"))
    return tuple(span for place, part in enumerate(parts) for span in (*(gap if place else ()), *part))


def hinted(left: Sequence[Span], forms: Iterable[Line], cells: int) -> Line:
    """One line with a hint at its right end, in the first of its forms that fits."""
    room = cells - cells_of(left) - _HINT_GAP
    return spread(left, next((one for one in forms if cells_of(one) <= room), ()), cells)


def cut(spans: Sequence[Span], cells: int) -> Line:
    """As much of a line as fits, with an ellipsis if something is missing."""
    kept: list[Span] = []
    room, whole = cells, cells_of(spans) <= cells
    for span in spans:
        if not whole and width(span.text) >= room:
            return (*kept, Span(crop(f"{span.text} ", room), span.style, span.action))
        kept.append(span)
        room -= width(span.text)
    return tuple(kept)


def short(path: Path) -> str:
    """A path as it is shown: on one line, and below the home folder it begins with `~`."""
    path = path.absolute()
    try:
        home = expanded("~")
    except NoHome:
        return flat(str(path))
    return flat(f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path))
