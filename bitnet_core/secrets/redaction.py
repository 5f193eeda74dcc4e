"""The one redactor: masks known values in each of their spellings, and what has the shape of a key.

For logs, events, tracebacks, reports and Parquet metadata. It knows values, never where they came from.
"""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "•••"
_SHORTEST = 6
# What it is called stays: `name=•••` says what was there. A key's body holds a digit: `sk-learn-and-long-words`,
# `Bearer responsibilities` and `api_key=settings.text(` are text.
_BODY = r"(?=[\w.~+/=-]*\d)[\w.~+/=-]{16,}"
_VALUE = r"(?=[^&\s\"'<>]*\d)[^&\s\"'<>]{8,}"
_WORDS = r"access_token|refresh_token|id_token|client_secret|api_key|apikey"
_SIGNED = r"X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|sig|signature"
_SHAPES = tuple(
    re.compile(f"(?P<kept>{kept}){body}", re.IGNORECASE if kept else re.DOTALL)
    for kept, body in (
        ("", r"(?<![A-Za-z0-9_])(?:sk|pk|rk)-(?=[\w-]*\d)[A-Za-z0-9_-]{16,}"),
        ("", r"(?<![A-Za-z0-9_])(?:gsk|hf|ghp|gho|glpat|xai)[_-](?=[\w-]*\d)[A-Za-z0-9_-]{16,}"),
        ("", r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{30,}"),
        ("", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])"),
        ("", r"(?<![A-Za-z0-9])ya29\.[0-9A-Za-z_-]{20,}"),
        ("", r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
        (r"\bauthorization: (?:bearer|basic) ", r"[^\s\"']+"),
        (r"\bbearer ", _BODY),
        ("://", r"[^\s/@:\"']*:[^\s/@\"']+(?=@)"),
        (rf"[?&](?:{_WORDS}|{_SIGNED})=", _VALUE),
        (rf"(?<![\w?&])(?:{_WORDS})=", _VALUE),
        (rf"\"(?:{_WORDS}|private_key)\\?\"\s*:\s*\\?\"", r"[^\"\\]{8,}"),
    )
)


class Redactor:
    """Called with a text, returns it with every secret masked; masking twice changes nothing more."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms = {form for value in values for form in _spellings(value) if len(form) >= _SHORTEST}
        self.spellings = sorted(forms, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for spelling in self.spellings:
            text = text.replace(spelling, MASK)
        for shape in _SHAPES:
            text = shape.sub(rf"\g<kept>{MASK}", text)
        return text

    def tree(self, value: Any) -> Any:
        """The same, in every text of a JSON-like value."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self.tree(key): self.tree(item) for key, item in value.items()}
        return type(value)(map(self.tree, value)) if isinstance(value, (list, tuple)) else value


def _spellings(value: str) -> set[str]:
    """As it is, in JSON, in Python's repr, in an address; and each long line of a value that has several."""
    texts = {value, value.strip(), *(line.strip() for line in value.splitlines() if len(line.strip()) >= 16)}
    return {
        form
        for text in texts
        for form in (
            text,
            json.dumps(text)[1:-1],
            json.dumps(text, ensure_ascii=False)[1:-1],
            repr(text)[1:-1],
            quote(text, safe="", errors="replace"),
            quote_plus(text, errors="replace"),
        )
    }
