"""The redactor: masks known keys in every encoding, and anything that has the shape of a key.

For logs, events, tracebacks, reports and Parquet metadata. It is given values and must not know where they are kept.
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from bitnet_core.secrets.encodings import key_patterns

MASK = "•••"
# The name of a value is kept: `name=•••` says which value was masked. Only a text with a digit counts as a key:
# `sk-learn-and-long-words`, `Bearer responsibilities` and `api_key=settings.text(` are ordinary text.
_BODY = r"(?=[\w.~+/=-]{0,256}?\d)[\w.~+/=-]{16,}"
_AFTER_PREFIX = r"(?=[\w-]{0,256}?\d)[A-Za-z0-9_-]{16,}"
_VALUE = r"(?=[^&\s\"'<>]{0,256}?\d)[^&\s\"'<>]{8,}"
_WORDS = r"access_token|refresh_token|id_token|client_secret|api_key|apikey"
_SIGNED = r"X-(?:Amz|Goog)-(?:Signature|Credential|Security-Token)|AWSAccessKeyId|sig|signature"
_HEADERS = r"(?:x-api-key|x-goog-api-key|api-key|x-auth-token|private-token|authorization)"
_SHAPES = tuple(
    (hints.split(), re.compile(f"(?P<kept>{kept}){body}", re.IGNORECASE if kept else re.DOTALL))
    for hints, kept, body in (
        ("sk- pk- rk-", "", rf"(?<![A-Za-z0-9_])(?:sk|pk|rk)-{_AFTER_PREFIX}"),
        ("gsk hf_ hf- ghp gho glpat xai", "", rf"(?<![A-Za-z0-9_])(?:gsk|hf|ghp|gho|glpat|xai)[_-]{_AFTER_PREFIX}"),
        ("aiza", "", r"(?<![A-Za-z0-9])AIza[0-9A-Za-z_-]{30,}"),
        ("akia asia", "", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])"),
        ("ya29.", "", r"(?<![A-Za-z0-9])ya29\.[0-9A-Za-z_-]{20,}"),
        ("-----begin", "", r"-----BEGIN [A-Z ]*PRIVATE KEY-----.+?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
        ("authorization", r"\bauthorization: (?:bearer|basic) ", r"[^\s\"']+"),
        ("bearer", r"\bbearer ", _BODY),
        ("basic", r"\bbasic ", r"(?=[\w+/]{0,256}?\d)[\w+/]{12,}={0,2}(?![\w.])"),
        ("-key -token authorization", rf"\b{_HEADERS}: ?", r"(?!(?:bearer|basic) )[^\s\"',]{8,}"),
        # A header in a dict, in a tuple of name and value, or in bytes, as a client's debug log shows it.
        (
            "-key -token authorization",
            rf"\b{_HEADERS}\\?[\"']\s*[:,]\s*b?\\?[\"'](?:bearer |basic )?",
            r"(?!bearer |basic )[^\s\"'\\]{6,}",
        ),
        ("://", "://", r"[^\s/@:\"']*:[^\s/@\"']+(?=@)"),
        ("? &", rf"[?&](?:key|token|password|{_WORDS}|{_SIGNED})=", _VALUE),
        ("token= secret= key=", rf"(?<![\w?&])(?:{_WORDS})=", _VALUE),
        ("password= passwd=", r"(?<!\w)(?:password|passwd)=", r"(?=[^&\s\"'<>,;)]{0,256}?\d)[^&\s\"'<>,;)]{6,}"),
        ("token secret key", rf"\"(?:{_WORDS}|private_key)\\?\"\s*:\s*\\?\"", r"[^\"\\]{8,}"),
    )
)
"""For each shape: hints in lower case, one of which a text must contain, and a pattern whose part `kept` stays."""


class Redactor:
    """Call it with a text to get the text with every secret masked. Masking twice gives the same text."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        found = {(one.text, one.exact): one for value in set(values) for one in key_patterns(value)}
        self._patterns = sorted(found.values(), key=lambda one: (-len(one.text), one.text))
        # Bodies may be long. They are searched as they are, for keys as given, in lower case and in upper case.
        self._probes = {probe.encode() for one in self._patterns for probe in one.probes}

    def __call__(self, text: str) -> str:
        text = self.mask_known(text)
        lowered = text.lower()
        for hints, shape in _SHAPES:
            for hint in hints:
                if hint in lowered:
                    text = shape.sub(rf"\g<kept>{MASK}", text)
                    break
        return text

    def mask_known(self, text: str) -> str:
        """Mask only the known keys; what just has the shape of a key stays."""
        flat = text.replace("\r", "").replace("\n", "") if "\n" in text else text
        lowered = flat.lower()
        for one in self._patterns:
            if one.probe in (flat if one.exact else lowered):
                text = one.pattern.sub(MASK, text)
        return text

    def mask_body(self, data: bytes) -> tuple[bytes, bool]:
        """A body with its known keys masked, and whether it had any. JSON stays JSON; nothing else is changed."""
        if not any(probe in data for probe in self._probes):
            return data, False
        text = data.decode(errors="surrogateescape")
        masked = self.mask_known(text)
        if masked == text:
            return data, False
        before = _json(text)
        if before is not None and _json(masked) is None:
            masked = json.dumps(_in_texts(before, self.mask_known, numbers=True), ensure_ascii=False)
        return masked.encode(errors="surrogateescape"), True

    def cut_off_at_end(self, text: str) -> int:
        """How many characters at the end of a text that goes on may be the beginning of a known key."""
        return max((one.cut_off_at_end(text) for one in self._patterns), default=0)

    def tree(self, value: Any) -> Any:
        """A JSON-like value with every text in it masked."""
        return _in_texts(value, self)


def _in_texts(value: Any, mask: Callable[[str], str], *, numbers: bool = False) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {_in_texts(key, mask): _in_texts(item, mask, numbers=numbers) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_in_texts(item, mask, numbers=numbers) for item in value)
    # A key of digits may be a JSON number, inside which a mask would not be JSON.
    is_key = numbers and isinstance(value, (int, float)) and mask(json.dumps(value)) != json.dumps(value)
    return MASK if is_key else value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
