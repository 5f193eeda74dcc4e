"""Decode JSON fast, and as leniently as Python does: some servers write NaN. Knows nothing else."""

import json
from typing import Any

import orjson


def decode(body: bytes | str) -> Any:
    """The value; ValueError for what is no JSON, and for what is nested deeper than anything sensible."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        try:
            return json.loads(body)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
