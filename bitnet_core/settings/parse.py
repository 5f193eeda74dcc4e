"""One setting's text as a value of its type, or a ValueError that says what is allowed."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from bitnet_core.settings.registry import Setting
from bitnet_core.text import is_utf8

Value = int | float | bool | str | Path | None
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def as_path(text: str, base: Path) -> Path:
    return Path(os.path.normpath(base / Path(text).expanduser()))


def _check_address(text: str) -> None:
    """It is written into run records. A key stands before an @ (with a slash in it, where no path should be)."""
    if "@" in text:
        raise ValueError("an address is written into run records, so it must not hold a password")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("it must be an address such as https://host/v1") from None
    if parts.query or "?" in text:
        raise ValueError("an address is written into run records, so it must have no query, which may hold a key")


def parse(setting: Setting, text: str, base: Path) -> Value:
    """Turn text into the setting's type, or raise ValueError with what is allowed."""
    wrong = ValueError(f"it must be {setting.allowed()}")
    if setting.kind == "path":
        return as_path(text, base)
    if setting.kind == "bool":
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise wrong
    if setting.choices and text not in setting.choices:
        raise wrong
    if setting.kind == "text":
        if not is_utf8(text):
            raise ValueError("it must be UTF-8")
        if "://" in text:
            _check_address(text)
        return text
    try:
        number = int(text.replace("_", "")) if setting.kind == "int" else float(text)
    except ValueError:
        raise wrong from None
    low = float("-inf") if setting.low is None else setting.low
    high = float("inf") if setting.high is None else setting.high
    if not low <= number <= high:
        raise wrong
    return number
