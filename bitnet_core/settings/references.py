"""References in a setting's text: `${NAME}`, or `${NAME:-fallback}` with a text to use if NAME is not set.

Only this module knows how they are written. The caller says what a name stands for.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
MAX_LENGTH = 30_000
"""The most characters of a value, after its references are expanded: an environment variable holds them."""
MAX_DEPTH = 100
"""The most references that may follow one another until there is a text."""


class Reference(NamedTuple):
    """`fallback` is None if the reference has none."""

    name: str
    fallback: str | None


def as_reference(text: str) -> Reference | None:
    """The reference, if the whole text is one."""
    found = _REFERENCE.fullmatch(text)
    return Reference(found[1], found[2]) if found else None


def names_in(text: str) -> frozenset[str]:
    """The names that the text refers to."""
    return frozenset(found[1] for found in _REFERENCE.finditer(_searched(text)))


def expand(text: str, value_of: Callable[[str], str | None]) -> str:
    """The text with every reference replaced.

    ValueError for a name with neither a value nor a fallback, and when the result is longer than MAX_LENGTH.
    """
    parts: list[str] = []
    length = end = 0
    for found in _REFERENCE.finditer(_searched(text)):
        given = value_of(found[1])
        if given is None and found[2] is None:
            raise ValueError(f"it uses ${{{found[1]}}}, which is not set")
        parts += [text[end : found.start()], given or found[2] or ""]
        end = found.end()
        length += len(parts[-2]) + len(parts[-1])
        if length > MAX_LENGTH:
            break
    parts.append(text[end:])
    if length + len(parts[-1]) > MAX_LENGTH:
        expanded = " when its references are expanded" if end else ""
        raise ValueError(f"it is longer than {MAX_LENGTH:,} characters{expanded}")
    return "".join(parts)


def _searched(text: str) -> str:
    """The part that may have references. Beyond it, each of many `${A:-` would be searched for its end."""
    return text[: text.rfind("}") + 1]
