"""Decode JSON fast, but as leniently as Python's own module: some servers write NaN."""

import json
from typing import Any

import orjson


def decode(body: bytes | str) -> Any:
    """The value. ValueError for what is not JSON or is nested too deeply."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(body)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
