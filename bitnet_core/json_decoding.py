"""Decode JSON fast, and as leniently as Python does: some servers write NaN. Knows nothing else."""

import json
from typing import Any

import orjson


def decode(body: bytes | str) -> Any:
    """The value; ValueError for what is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)
