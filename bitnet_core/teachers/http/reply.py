"""One HTTP answer and what it says of itself: is it an error, may it pass, is money the matter. Knows no httpx.

Servers word their errors in many shapes, and some send them with status 200; every one is read here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_SPENT_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credits_exhausted"}
_SPENT_SIGNS = (
    *("insufficient balance", "credit balance is too low", "insufficient credits", "spending limit", "spending cap"),
    *("credits are depleted", "specified api usage limits", "key limit exceeded", "free-models-per-day"),
    *("requests per day", "tokens per day"),
)
_CODES = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "timeout_error": 504,
    "api_error": 500,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "service_unavailable": 503,
}
"""What an error is called where it comes without a number: Anthropic's names, OpenAI's and what imitates them."""
_WORDS = {"rate limit exceeded": 429, "rate limit reached": 429, "too many requests": 429}
"""What an error says that is sent with status 200 and has neither a number nor a name."""
_TOO_LARGE = "request too large"
"""For what a minute's limit is too small no waiting helps, whatever the status."""
_ABOUT_THE_PROMPT = ("content", "moderation", "safety", "policy")
"""In the name of an error: it may quote the prompt, whatever that is about."""
_RETRIED = frozenset({408, 409, 429})
_CLOSED = frozenset({503, 529})
"""Servers that let nothing in."""


@dataclass(frozen=True)
class Reply:
    """One answer, whatever its status; `payload` is None when the body is no JSON."""

    status: int
    body: bytes
    payload: Any
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @cached_property
    def error(self) -> Mapping[str, Any] | None:
        """The error of a body, also of one sent with status 200, with its words in `message`."""
        payload = self.payload[0] if isinstance(self.payload, list) and self.payload else self.payload
        if not isinstance(payload, dict):
            return None
        error = payload.get("error")
        if isinstance(error, dict) and error:
            metadata = error.get("metadata")
            raw = metadata.get("raw") if isinstance(metadata, dict) else None  # OpenRouter: what its upstream said
            return {**error, "message": _words([error.get("message"), _decoded(raw)])}
        if isinstance(error, str) and error:
            # NestJS names the status in `error` and says what is wrong in `message`.
            said = _words([payload.get("message"), payload.get("detail")])
            return {"message": said or error, "type": error if said else None}
        if self.status >= 400 and (said := _words([payload.get("message"), payload.get("detail")])):
            return {**payload, "message": said}
        return None

    @property
    def code(self) -> int:
        """The status, or what the error in a body of status 200 says that it should be."""
        error = self.error
        if self.status != 200 or error is None:
            return self.status
        for name in ("code", "status", "type"):
            told = str(error.get(name) or "")
            if told.isdecimal() and 400 <= int(told) < 600:
                return int(told)
            if told.lower() in _CODES:
                return _CODES[told.lower()]
        if self._named:
            return self.status
        return next((code for words, code in _WORDS.items() if words in self._low), self.status)

    @property
    def _low(self) -> str:
        """What the error says, in small letters."""
        return str((self.error or {}).get("message", "")).lower()

    @property
    def _named(self) -> str:
        """What the error is called, where it is called anything but its status."""
        names = (str((self.error or {}).get(name) or "") for name in ("code", "status", "type"))
        return " ".join(name.lower() for name in names if name != str(self.status)).strip()

    @property
    def about_the_prompt(self) -> bool:
        """Whether the error is called so that its words may be the prompt's."""
        others = self.code >= 500 or self.code in (402, 429)
        return not others and any(sign in self._named for sign in _ABOUT_THE_PROMPT)

    @property
    def too_large(self) -> bool:
        """Whether this one request is more than the server ever takes."""
        return _TOO_LARGE in self._low

    @property
    def retryable(self) -> bool:
        """Whether it may be another the next time: a rate limit, a failure of the server, a page of a gateway."""
        if self.quota_spent or self.too_large:
            return False
        return self.code in _RETRIED or self.code >= 500 or (self.status == 200 and self.payload is None)

    @property
    def refused(self) -> bool:
        """Whether the server said no before it did anything; a gateway may fail after an answer was billed."""
        return (400 <= self.status < 500 and self.status != 408) or self.status in _CLOSED

    @property
    def quota_spent(self) -> bool:
        """Waiting brings a rate back, but no money: some servers tell the two apart in the body alone."""
        if self.code == 402:
            return True
        error = self.error or {}
        if _SPENT_CODES & {str(error.get("code")), str(error.get("type"))}:
            return True
        known = self.code >= 400 or not self._named
        if known and not self.about_the_prompt and any(sign in self._low for sign in _SPENT_SIGNS):
            return True
        return self.code == 429 and "perday" in json.dumps(error.get("details", "")).lower()

    @property
    def kind(self) -> str:
        """What a body is that is no JSON."""
        start = self.body[:200].lstrip().lower()
        if start.startswith((b"<!doctype", b"<html")):
            return "a web page"
        return "an empty body" if not start else "something"

    def words(self) -> str:
        """What the server says, each thing once."""
        error = self.error or {}
        said = ""
        for name in ("message", "code", "type"):
            part = " ".join(str(error.get(name) or "").split())
            if part and part not in said:
                said = f"{said} {part}".strip()
        return said.rstrip(".")


def _decoded(raw: Any) -> Any:
    if not isinstance(raw, str):
        return raw
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def _words(told: Any) -> str:
    """The words in what stands for a message: a text, a list of them, FastAPI's `detail` with its `loc` and `msg`."""
    if isinstance(told, str):
        return told
    if isinstance(told, list):
        return "; ".join(filter(None, map(_words, told)))
    if not isinstance(told, dict):
        return ""
    said, place = told.get("msg"), told.get("loc")
    if isinstance(said, str):
        return f"{'.'.join(map(str, place))}: {said}" if isinstance(place, list) else said
    return _words([told.get(name) for name in ("message", "detail", "error")])
