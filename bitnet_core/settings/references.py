"""References in a setting's text: `${NAME}`, and `${NAME:-fallback}` for where NAME is not set.

The one place that knows how they are written. What a name stands for is the caller's.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Reference:
    """`fallback` is None where the reference has none."""

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
    """The text with every reference replaced. ValueError for a name without a value and a fallback."""

    def value(found: re.Match[str]) -> str:
        given = value_of(found[1])
        if given is None and found[2] is None:
            raise ValueError(f"it uses ${{{found[1]}}}, which is not set")
        return given or found[2] or ""

    return _REFERENCE.sub(value, text)
