"""The words of an error, whatever the shape it comes in: JSON of any server, or plain text. Knows no status."""

import re
from collections.abc import Mapping
from typing import Any

_NAMES = (
    *("message", "msg", "error_message", "error_msg", "errormessage", "errormsg", "err_msg", "errmsg"),
    *("detail", "details", "description", "error_description", "errordescription", "reason", "title"),
    *("status_msg", "status_message", "faultstring", "hint"),
    *("error", "errors", "err", "base_resp", "fault", "exception", "cause"),
)
"""The fields that hold an error's words, or an object with such fields, in lower case."""
_LISTS = ("errors", "details")
"""Fields that may be a map of the names of fields to what is wrong with them."""
_LIMITS = ("limit", "max", "maximum", "max_value", "max_allowed", "max_limit")
_MOST_CHARACTERS = 4000
_TAG = re.compile(r"<[^<>]{0,200}>")


def words_of(value: Any) -> str:
    """The words in a decoded error: a text, a list of errors, or an object; "" if it has none."""
    return _text(value)[:_MOST_CHARACTERS]


def words_of_body(body: bytes) -> str:
    """The words of a body that is not JSON; "" for a web page and for what is no text."""
    text = body[:_MOST_CHARACTERS].decode("utf-8", errors="ignore").strip()
    if text[:9].lower().startswith(("<!doctype", "<html")) or not all(
        sign.isprintable() or sign.isspace() for sign in text
    ):
        return ""
    return " ".join((_TAG.sub(" ", text) if text.startswith("<") else text).split())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, list):
        return "; ".join(filter(None, map(_text, value)))
    if not value or not isinstance(value, Mapping):
        return ""
    fields = {str(name).lower(): one for name, one in value.items()}
    said: list[str] = []
    for name in filter(fields.__contains__, _NAMES):
        one = fields[name]
        found = _by_field(one) if name in _LISTS and isinstance(one, Mapping) else _text(one)
        if found and not any(found in other for other in said):
            said.append(found)
    text = "; ".join(said)
    place = fields.get("loc")
    if text and isinstance(place, list):
        text = f"{'.'.join(map(str, place))}: {text}"
    limits = [f"{name}: {fields[name]}" for name in _LIMITS if type(fields.get(name)) is int] if text else []
    return f"{text} ({', '.join(limits)})" if limits else text


def _by_field(errors: Mapping[str, Any]) -> str:
    """The words of an object of errors; without a field of a known name, its names are those of refused fields."""
    return _text(errors) or "; ".join(f"{name}: {text}" for name, one in errors.items() if (text := _text(one)))
