"""Styled text as plain values: a line is a tuple of spans, a style is a name that the theme explains."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bitnet_core.text import width


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


def spread(left: Sequence[Span], right: Sequence[Span], cells: int) -> Line:
    """Left and right ends of one line; the right end gives way when both do not fit."""
    used = sum(width(span.text) for span in left)
    free = cells - used - sum(width(span.text) for span in right)
    return (*left, Span(" " * free), *right) if free > 0 else tuple(left)
