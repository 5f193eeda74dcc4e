"""One HTTP reply: what its error means (worth a retry, about the prompt, a spent quota), and how long to wait.

Servers report errors in many shapes, some with status 200. All of them are read here. Knows no httpx.
"""

import contextlib
import datetime as dt
import email.utils
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bitnet_core.teachers.answers.json_body import as_list, as_object
from bitnet_core.teachers.http.error_words import words_of, words_of_body
from bitnet_core.teachers.http.payload import decode_error
from bitnet_core.text import is_utf8

_SPENT_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "credits_exhausted"}
_SPENT_SIGNS = (
    *("insufficient balance", "credit balance is too low", "insufficient credits", "spending limit", "spending cap"),
    *("credits are depleted", "specified api usage limits", "key limit exceeded", "free-models-per-day"),
    *("requests per day", "tokens per day"),
)
_MONEY, _GONE = (
    r"(?:balance|funds?|credits?|quota)",
    r"(?:insufficient|exhausted|depleted|used up|too low|not enough)",
)
_SPENT = re.compile(
    rf"\b{_GONE}\b.{{0,30}}\b{_MONEY}\b|\b{_MONEY}\b.{{0,30}}\b{_GONE}\b"
    rf"|\b(?:out of|no|no more|zero|negative) (?:remaining |available )?{_MONEY}\b|\boverdue\b|\barrear"
    r"|\b(?:top[- ]up|recharge|add (?:more )?(?:credits?|funds))\b"
    r"|\b(?:daily|weekly|monthly)\b.{0,30}\b(?:limit|cap|quota|allowance)\b"
    r".{0,30}\b(?:reached|exceeded|exhausted|spent|hit|used up)\b"
)
"""Only money, or waiting for days, helps."""
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
"""Status codes of errors that have a name instead of a number: Anthropic's, OpenAI's and those of their imitators."""
_BUSY_WORDS = {
    "rate limit exceeded": 429,
    "rate limit reached": 429,
    "too many requests": 429,
    "too many connections": 429,
    "too many concurrent": 429,
    "maintenance": 503,
    "overloaded": 503,
    "currently loading": 503,
    "temporarily unavailable": 503,
}
"""Status codes by the words of an error with status 401 or 403, which some gateways give to every error, and of one
with status 200 and neither a number nor a name."""
_UNSUPPORTED = ("not supported", "unsupported", "not implemented")
"""In a 500 or 503, these say that the same request will fail again."""
_TOO_LARGE = "request too large"
"""A request larger than the limit for a minute is never accepted, whatever the status."""
_ABOUT_THE_PROMPT = ("content", "moderation", "safety", "policy")
"""In the name of an error, these say that its message may quote the prompt."""
_IN_ANY = ("message", "detail")
"""The fields that say something of an error with status 200; others are not decoded then."""
_RETRIED = frozenset({408, 409, 429})
_NOT_IMPLEMENTED = 501
_OVERLOADED = frozenset({503, 529})
"""The server did not start on the request."""

_EVENTS, _NOT_UTF8 = "a stream of events", "text that is not UTF-8"
_SEVERAL, _BROKEN = "several JSON values", "a broken JSON text"
_LIKE_ANSWERS = frozenset({_EVENTS, _NOT_UTF8, _SEVERAL, _BROKEN})
"""Kinds of bodies that a server may have made of an answer."""

_LONGEST_WAIT = 3600.0
"""Seconds until a server is asked again that wants a longer wait."""
_MOST_SECONDS = 2 * 86400.0
"""The longest wait that is believed at all: allowances are renewed within a day."""
_COUNTERS = (
    (
        ("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining", "x-ratelimit-remaining"),
        ("x-ratelimit-reset-requests", "anthropic-ratelimit-requests-reset", "x-ratelimit-reset"),
    ),
    (
        ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining"),
        ("x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"),
    ),
)
"""Headers with what remains, first for requests and then for tokens, and headers with the time of the next reset."""
_DURATION = re.compile(r"(?<![\d.])(\d++(?:\.\d++)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH, _EPOCH_MS = 1e9, 1e11
"""Numbers above these are moments in Unix time, in seconds and in milliseconds, not durations."""


@dataclass(frozen=True)
class Reply:
    """One reply, whatever its status.

    `payload` is the decoded body, or only the fields of an error for an answer to a POST with status 200; None if the
    body is not JSON.
    """

    status: int
    body: bytes
    payload: Any
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    asked: Any = field(default=None, repr=False)
    """The decoded body of the request, which an error may quote."""

    @cached_property
    def error(self) -> Mapping[str, Any] | None:
        """The error in the body, whatever the status; its text is in `message`."""
        payload = self.payload[0] if isinstance(self.payload, list) and self.payload else self.payload
        failed = self.status >= 400
        if not isinstance(payload, dict):
            said = (words_of_body(self.body) if payload is None else words_of(payload)) if failed else ""
            return {"message": said} if said else None
        error = payload.get("error")
        rest = {name: one for name, one in payload.items() if name != "error" and (failed or name in _IN_ANY)}
        if isinstance(error, dict) and error:
            raw = as_object(error.get("metadata")).get("raw")  # OpenRouter: the error of its upstream
            said = words_of([error, _decoded(raw)]) or words_of(rest)
            return {**error, "message": said}
        if isinstance(error, list) and (said := words_of(error)):
            return {**rest, "message": said}
        if isinstance(error, str) and error:
            # NestJS puts the name of the status into `error` and the text into `message`.
            said = words_of(rest)
            return {"message": said or error, "type": error if said else None}
        if failed and (said := words_of(rest)):
            return {**payload, "message": said}
        return None

    @property
    def code(self) -> int:
        """The status, or the one that the error should have had if its words or names say more."""
        error = self.error
        if self.status in (401, 403):
            return self._by_words(_BUSY_WORDS)
        if self.status in (500, 503):
            return self._by_words(dict.fromkeys(_UNSUPPORTED, _NOT_IMPLEMENTED))
        if self.status != 200 or error is None:
            return self.status
        for name in ("code", "status", "type"):
            value = str(error.get(name) or "").lower()
            if len(value) == 3 and value.isdecimal() and 400 <= int(value) < 600:
                return int(value)
            if value in _CODES:
                return _CODES[value]
        return self.status if self._names else self._by_words(_BUSY_WORDS)

    def _by_words(self, codes: Mapping[str, int]) -> int:
        """The code of the first words that the error has and the request has not; else the status."""
        return next((code for words, code in codes.items() if self._says(words)), self.status)

    def _says(self, words: str) -> bool:
        """Whether the error has these words of its own, not quoted from the request."""
        return words in self._message and _plain(words) not in _plain(" ".join(_strings(self.asked)))

    @property
    def _message(self) -> str:
        """The text of the error in lower case."""
        return str((self.error or {}).get("message", "")).lower()

    @property
    def _names(self) -> str:
        """The names that the error has, in lower case, without its status."""
        names = (str((self.error or {}).get(name) or "") for name in ("code", "status", "type"))
        return " ".join(name.lower() for name in names if name != str(self.status)).strip()

    @property
    def about_the_prompt(self) -> bool:
        """Whether its names say that the error is about the prompt, and so may quote it."""
        about_the_server = self.code >= 500 or self.code in (402, 429)
        return not about_the_server and any(sign in self._names for sign in _ABOUT_THE_PROMPT)

    @property
    def too_large(self) -> bool:
        """Whether the server never accepts a request this large."""
        return _TOO_LARGE in self._message

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later: a rate limit, a server failure, the web page of a gateway."""
        if self.quota_spent or self.too_large:
            return False
        return (
            self.code in _RETRIED
            or (self.code >= 500 and self.code != _NOT_IMPLEMENTED)
            or (self.status == 200 and self.payload is None)
        )

    @property
    def like_an_answer(self) -> bool:
        """Whether it may be an answer in a form that can't be read, and no page of a gateway."""
        return self.status == 200 and self.payload is None and self.body_kind in _LIKE_ANSWERS

    @property
    def refused(self) -> bool:
        """Whether the server refused before it did any work. A gateway may fail after the answer was billed."""
        return (400 <= self.status < 500 and self.status != 408) or self.status in _OVERLOADED

    @property
    def quota_spent(self) -> bool:
        """Whether only money helps, not waiting. Some servers tell this from a rate limit only in the body."""
        if self.code == 402:
            return True
        error = self.error or {}
        if _SPENT_CODES & {str(error.get("code")), str(error.get("type"))}:
            return True
        certain = self.code >= 400 or not self._names
        spent = any(sign in self._message for sign in _SPENT_SIGNS) or _SPENT.search(self._message)
        if certain and not self.about_the_prompt and spent:
            return True
        return self.code == 429 and "perday" in json.dumps(error.get("details", "")).lower()

    @property
    def body_kind(self) -> str:
        """What a body that is not JSON is, in words."""
        start = self.body[:200].lstrip().lower()
        if start.startswith((b"<!doctype", b"<html")):
            return "a web page"
        if start.startswith((b"data:", b"event:", b": ")):
            return _EVENTS
        if start and not is_utf8(self.body.decode(errors="surrogateescape")):
            return _NOT_UTF8
        if start.startswith(b"{"):
            return _SEVERAL if _begins_with_json(self.body) else _BROKEN
        return "something" if start else "an empty body"

    def words(self) -> str:
        """The error in words: its message, code and type, without repetition."""
        error = self.error or {}
        said = ""
        for name in ("message", "code", "type"):
            part = " ".join(str(error.get(name) or "").split())
            if part and part not in said:
                said = f"{said} {part}".strip()
        return said.rstrip(".")


def _begins_with_json(body: bytes) -> bool:
    """Whether there is a whole JSON object at the beginning; another one follows, as the body is not JSON."""
    with contextlib.suppress(ValueError, RecursionError):
        return isinstance(json.JSONDecoder().raw_decode(body.decode(errors="replace").lstrip())[0], dict)
    return False


def _strings(value: Any) -> Iterator[str]:
    """Every text in a request."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _strings(one)


def _plain(text: str) -> str:
    """The words of a text, without case, signs and breaks, which a quotation may change."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _decoded(raw: Any) -> Any:
    with contextlib.suppress(ValueError):
        return decode_error(raw.encode()) if isinstance(raw, str) else raw
    return raw


def wait_until_reset(headers: Mapping[str, str]) -> float:
    """Seconds until a used-up allowance of requests or tokens is renewed; 0 while something remains."""
    waits, now = [0.0], _server_time(headers)
    for remaining, reset in _COUNTERS:
        if _first(headers, remaining).strip() in ("0", "0.0"):
            waits.append(seconds_until(_first(headers, reset), now) or 0.0)
    return min(max(waits), _LONGEST_WAIT)


def requested_wait(reply: Reply) -> float | None:
    """Seconds to wait by Retry-After, or by Google's RetryInfo in the body; None if neither asks for a wait."""
    wait = seconds_until(reply.headers.get("retry-after", ""), _server_time(reply.headers))
    if wait is None:
        wait = seconds_until(f"{reply.headers.get('retry-after-ms', '')}ms")
    for detail in as_list((reply.error or {}).get("details")) if wait is None else ():
        if isinstance(detail, dict) and "retryDelay" in detail:
            wait = seconds_until(str(detail["retryDelay"]))
    return min(wait, _LONGEST_WAIT) if wait else None


def _server_time(headers: Mapping[str, str]) -> dt.datetime | None:
    """What the server's clock said when it answered; this machine's may be an hour off. None if it is not told."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return email.utils.parsedate_to_datetime(headers.get("date", "")).astimezone(dt.UTC)
    return None


def seconds_until(text: str, now: dt.datetime | None = None) -> float | None:
    """Seconds until a moment written as seconds, `1m30s`, Unix time or a date, at least 0.

    None if it is neither, and for one days away, as in the year 9999: no allowance is renewed so late.
    `now` is what the clock says by which the moment was told; by default this machine's.
    """
    now = now or dt.datetime.now(dt.UTC)
    text = text.strip()
    found: float | None = None
    if text and _DURATION.sub("", text) == "":
        found = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    else:
        with contextlib.suppress(ValueError):
            found = float(text)
            found = found / 1000 if found > _EPOCH_MS else found
            found = found - now.timestamp() if found > _EPOCH else found
    if found is None:
        for parse in (dt.datetime.fromisoformat, email.utils.parsedate_to_datetime):
            with contextlib.suppress(ValueError, TypeError, OverflowError):  # the year or the zone may be any number
                found = (parse(text) - now).total_seconds()
                break
    return max(found, 0.0) if found is not None and abs(found) <= _MOST_SECONDS else None


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if name in headers), "")
