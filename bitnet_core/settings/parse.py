"""Turns one setting's text into a value of its type, or raises a ValueError that says what is allowed."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from bitnet_core.settings.kinds import Setting
from bitnet_core.text import is_utf8

Value = int | float | bool | str | Path | None
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def parse(setting: Setting, text: str, base: Path) -> Value:
    """The value of a text that is not empty. A relative path is relative to `base`."""
    not_allowed = ValueError(f"it must be {setting.allowed()}")
    if setting.kind == "path":
        return as_path(text, base)
    if setting.kind == "bool":
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise not_allowed
    if setting.choices and text not in setting.choices:
        raise not_allowed
    if setting.kind == "text":
        _check_text(text)
        return text
    try:
        number = int(text.replace("_", "")) if setting.kind == "int" else float(text)
    except ValueError:
        raise not_allowed from None
    low = float("-inf") if setting.low is None else setting.low
    high = float("inf") if setting.high is None else setting.high
    if not low <= number <= high:
        raise not_allowed
    return number


def as_path(text: str, base: Path) -> Path:
    """An absolute path without `..`; `~` is the home folder."""
    return Path(os.path.normpath(base / Path(text).expanduser()))


def _check_text(text: str) -> None:
    if not is_utf8(text):
        raise ValueError("it must be UTF-8")
    if "://" in text:
        _check_address(text)


def _check_address(text: str) -> None:
    """Addresses are written into run records, so they must hold no key: neither before an @ nor in a query."""
    # An @ in a path is refused as well: a password with a slash in it looks like one.
    if "@" in text:
        raise ValueError("an address is written into run records, so it must not hold a password")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("it must be an address such as https://host/v1") from None
    if parts.query or "?" in text:
        raise ValueError("an address is written into run records, so it must have no query, which may hold a key")
