"""How long a server asks to wait, in headers that may hold anything."""

import datetime as dt
from collections.abc import Mapping
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.teachers.http.reply import Reply, requested_wait, seconds_until, wait_until_reset
from tests.fuzzing import fuzz

HUGE = "9" * 20
NO_TIMES = [
    f"Mon, 01 Jan {HUGE} 00:00:00 GMT",
    f"Mon, {HUGE} Jan 2030 00:00:00 GMT",
    f"Mon, 01 Jan 2030 {HUGE}:00:00 GMT",
    f"Mon, 01 Jan 2030 00:{HUGE}:00 GMT",
    f"Mon, 01 Jan 2030 00:00:{HUGE} GMT",
    "Mon, 01 Jan 2030 00:00:00 +99999999999999",
    "Mon, 01 Jan 2030 00:00:00 -99999999999999",
    f"01 Jan 2030 {HUGE}",
    f"Jan, 01 {HUGE}",
    f"2030-01-01T00:00:00+{HUGE}",
    f"{HUGE}-01-01T00:00:00Z",
    "2030-01-01",
    "Mon, 01 Foo 2030 00:00:00 GMT",
    "nan",
    "soon",
    "",
]
NEVER = [
    *("inf", "-inf", "1e400", "1e30", "Infinity", "999999999", "-999999999", f"{HUGE}d", HUGE),
    *("Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59Z", "253402300799", "253402300799000"),
    "Thu, 01 Jan 1970 00:00:00 GMT",
]
WORDS = [
    "Mon",
    ",",
    "01",
    "Jan",
    "2030",
    "00:00:00",
    "GMT",
    "+",
    "-",
    HUGE,
    " ",
    ":",
    "T",
    "Z",
    "1e400",
    "m",
    "\x00",
    "é",
]


@pytest.mark.parametrize("text", [*NO_TIMES, *NEVER])
def test_what_is_no_time_is_no_wait(text: str) -> None:
    assert seconds_until(text) is None
    assert requested_wait(Reply(429, b"", None, headers={"retry-after": text, "retry-after-ms": text})) is None
    assert requested_wait(Reply(429, b"", {"error": {"details": [{"retryDelay": text}]}})) is None
    assert wait_until_reset(counters(text)) == 0


@fuzz(300)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join) | st.text(max_size=40))
def test_any_text_is_a_wait_or_none(text: str) -> None:
    wait = seconds_until(text)
    assert wait is None or wait >= 0
    assert 0 <= wait_until_reset(counters(text)) <= 3600


@pytest.mark.parametrize(("milliseconds", "seconds"), [("1500", 1.5), ("600000", 600), ("1e400", None), ("-1", None)])
def test_a_wait_in_milliseconds(milliseconds: str, seconds: float | None) -> None:
    assert requested_wait(Reply(429, b"", None, headers={"retry-after-ms": milliseconds})) == seconds


@pytest.mark.parametrize("text", ["0", "0.0", "-5", "-0.5", "Sun, 29 Nov 2026 10:00:00 GMT", "1790000000"])
def test_a_moment_that_has_passed_asks_for_no_wait(text: str) -> None:
    """The pace says then how long a request waits, and a server that is down is not asked again at once."""
    headers = {"retry-after": text, "date": "Sun, 29 Nov 2026 11:00:00 GMT"}
    assert requested_wait(Reply(429, b"", None, headers=headers)) is None


def test_a_moment_in_every_format() -> None:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    for text in (format_datetime(moment, usegmt=True), moment.isoformat(), str(moment.timestamp()), "1m30s", "90"):
        wait = seconds_until(text)
        assert wait is not None
        assert 80 < wait < 95


@pytest.mark.parametrize("hours_off", [-9, -1, 1, 9])
def test_a_moment_is_told_by_the_servers_clock(hours_off: int) -> None:
    now = dt.datetime.now(dt.UTC) + dt.timedelta(hours=hours_off)
    moment, date = now + dt.timedelta(seconds=90), format_datetime(now, usegmt=True)
    for text in (format_datetime(moment, usegmt=True), moment.isoformat(), str(moment.timestamp())):
        wait = requested_wait(Reply(429, b"", None, headers={"retry-after": text, "date": date}))
        assert wait is not None
        assert 80 < wait < 95
        assert 80 < wait_until_reset({**counters(text), "date": date}) < 95


@pytest.mark.parametrize("date", NO_TIMES)
def test_a_clock_that_is_not_told_is_ours(date: str) -> None:
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=90)
    headers = {"retry-after": format_datetime(moment, usegmt=True), "date": date}
    assert 80 < (requested_wait(Reply(429, b"", None, headers=headers)) or 0) < 95


@pytest.mark.parametrize("code", ["9" * 5000, "-429", "42", "4290", "٤٢٩" * 2000, "4e2"])
def test_a_code_of_any_length_is_no_status(code: str) -> None:
    assert Reply(200, b"", {"error": {"code": code, "message": "x"}}).code == 200


def counters(text: str) -> Mapping[str, str]:
    return {
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": text,
        "x-ratelimit-remaining-tokens": "0",
        "anthropic-ratelimit-tokens-reset": text,
    }
