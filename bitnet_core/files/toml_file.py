"""Reads a TOML file that somebody else may have written, within bounds."""

import re
from pathlib import Path
from typing import Any

from bitnet_core.files.regular import read_bounded

_MOST_PARTS = 100
_LONG_NAME = rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{_MOST_PARTS}}}"""
"""Of a name with ten thousand parts the parser makes gigabytes."""


def read_toml(path: Path, most_bytes: int) -> dict[str, Any]:
    """Its tables. OSError if it can't be read or is too long, ValueError with the reason if it is not TOML."""
    import tomllib

    text = read_bounded(path, most_bytes).decode("utf-8-sig")
    if found := re.search(_LONG_NAME, text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"line {line}: a name has more than {_MOST_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
