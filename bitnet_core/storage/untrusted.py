"""Values out of a server's JSON, which may be of any type: read as what they should be, or as nothing."""

import contextlib
import datetime
from typing import Any

from bitnet_core.storage.clients.http import Response
from bitnet_core.storage.target import Nonsense, Unreachable
from bitnet_core.text import is_utf8

_MOST_DIGITS = 18


def object_of(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def body_of(response: Response) -> dict[str, Any]:
    """The body as an object; an empty one if it is something else, as a proxy's page is."""
    try:
        return response.object("JSON")
    except (Nonsense, Unreachable):
        return {}


def objects_of(value: object) -> list[dict[str, Any]]:
    """The objects of an array; none if it is no array."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def text_of(value: object) -> str:
    """The value if it is a string, else an empty one. A lone surrogate, which JSON can hold, is not text."""
    return value if isinstance(value, str) and is_utf8(value) else ""


def count_of(value: object) -> int | None:
    """A number of bytes, given as a number or in digits; None if it is none."""
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) <= _MOST_DIGITS:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def unix_seconds_of(moment: object) -> float | None:
    """Unix seconds of a time in ISO 8601; None if it is none."""
    with contextlib.suppress(ValueError, OverflowError):
        return datetime.datetime.fromisoformat(text_of(moment)).timestamp()
    return None
