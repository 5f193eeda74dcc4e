"""Decode JSON fast, but as leniently as Python's own module (some servers write NaN), and take it apart safely."""

import json
from collections.abc import Mapping
from typing import Any

import orjson

_MOST_DIGITS = 1000


def decode(body: bytes | str) -> Any:
    """The value. ValueError for what is not JSON or is nested too deeply."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(body, parse_int=_integer)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int | float:
    """Python refuses to read more than 4300 digits; a number of that size is infinite here."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def as_object(value: Any) -> dict[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """The value if it is a JSON list, else an empty one."""
    return value if isinstance(value, list) else []


class OneOfSeveral:
    """Of the answers that a stream gives side by side the first one: a mixture would be nobody's answer."""

    def __init__(self) -> None:
        self._index: Any = None

    def own(self, event: Mapping[str, Any], field: str) -> dict[str, Any]:
        """The piece of that answer in a list of an event; empty if it has none."""
        for one in map(as_object, as_list(event.get(field))):
            if self._index is None:
                self._index = one.get("index")
            if one.get("index") in (None, self._index):
                return one
        return {}
