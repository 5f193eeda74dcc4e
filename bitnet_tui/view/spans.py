"""Styled text as plain values: a line is a tuple of spans; a style is a name that the theme defines."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.files.user_folders import NoHome, expanded
from bitnet_core.text import flat, width


@dataclass(frozen=True)
class Span:
    text: str
    style: str = ""


Line = tuple[Span, ...]


def line(*parts: str | Span) -> Line:
    return tuple(part if isinstance(part, Span) else Span(part) for part in parts)


def spread(left: Sequence[Span], right: Sequence[Span], cells: int) -> Line:
    """One line with text at both ends; `right` is left out if both do not fit."""
    used = sum(width(span.text) for span in left)
    free = cells - used - sum(width(span.text) for span in right)
    return (*left, Span(" " * free), *right) if free > 0 else tuple(left)


def short(path: Path) -> str:
    """A path as it is shown: on one line, and below the home folder it begins with `~`."""
    path = path.absolute()
    try:
        home = expanded("~")
    except NoHome:
        return flat(str(path))
    return flat(f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path))
