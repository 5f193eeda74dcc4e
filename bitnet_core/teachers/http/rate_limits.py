"""How long a server asks its clients to wait, as its headers and errors say it. Knows no HTTP client."""

import contextlib
import datetime as dt
import email.utils
import re
from collections.abc import Mapping

from bitnet_core.teachers.http.reply import Reply

_LONGEST_WAIT = 3600.0
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
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH, _EPOCH_MS = 1e9, 1e11
"""Numbers above these are moments in Unix time, in seconds and in milliseconds, not durations."""


def wait_until_reset(headers: Mapping[str, str]) -> float:
    """Seconds until a used-up allowance of requests or tokens is renewed; 0 while something remains."""
    waits = [0.0]
    for remaining, reset in _COUNTERS:
        if _first(headers, remaining).strip() in ("0", "0.0"):
            waits.append(seconds_until(_first(headers, reset)) or 0.0)
    return min(max(waits), _LONGEST_WAIT)


def requested_wait(reply: Reply) -> float | None:
    """Seconds to wait according to Retry-After, or to Google's RetryInfo in the body; None if neither is there."""
    wait = seconds_until(reply.headers.get("retry-after", ""))
    if wait is None:
        milliseconds = seconds_until(reply.headers.get("retry-after-ms", ""))
        wait = None if milliseconds is None else milliseconds / 1000
    details = (reply.error or {}).get("details")
    for detail in details if wait is None and isinstance(details, list) else []:
        if isinstance(detail, dict) and "retryDelay" in detail:
            wait = seconds_until(str(detail["retryDelay"]))
    return None if wait is None else min(wait, _LONGEST_WAIT)


def seconds_until(text: str) -> float | None:
    """Seconds until a moment written as seconds, `1m30s`, Unix time or a date, at least 0; None if it is neither."""
    text = text.strip()
    found: float | None = None
    if text and _DURATION.sub("", text) == "":
        found = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    else:
        with contextlib.suppress(ValueError):
            found = float(text)
            found = found / 1000 if found > _EPOCH_MS else found
            found = found - dt.datetime.now(dt.UTC).timestamp() if found > _EPOCH else found
    if found is None:
        for parse in (dt.datetime.fromisoformat, email.utils.parsedate_to_datetime):
            with contextlib.suppress(ValueError, TypeError):
                found = (parse(text) - dt.datetime.now(dt.UTC)).total_seconds()
                break
    return None if found is None or found != found else max(found, 0.0)


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if name in headers), "")
