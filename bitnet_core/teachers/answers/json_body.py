"""Decode JSON fast, but as leniently as Python's own module (some servers write NaN), and take it apart safely."""

import json
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
