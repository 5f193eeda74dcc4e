"""References in a setting's text: `${NAME}`, or `${NAME:-fallback}` with a text to use if NAME is not set.

Only this module knows how they are written. The caller says what a name stands for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Reference:
    """`fallback` is None if the reference has none."""

    name: str
    fallback: str | None


def as_reference(text: str) -> Reference | None:
    """The reference, if the whole text is one."""
    found = _REFERENCE.fullmatch(text)
    return Reference(found[1], found[2]) if found else None


def names_in(text: str) -> frozenset[str]:
    """The names that the text refers to."""
    return frozenset(found[1] for found in _REFERENCE.finditer(text))


def expand(text: str, value_of: Callable[[str], str | None]) -> str:
    """The text with every reference replaced. ValueError for a name with neither a value nor a fallback."""

    def value(found: re.Match[str]) -> str:
        given = value_of(found[1])
        if given is None and found[2] is None:
            raise ValueError(f"it uses ${{{found[1]}}}, which is not set")
        return given or found[2] or ""

    return _REFERENCE.sub(value, text)
