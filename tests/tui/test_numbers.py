"""Numbers as people read them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_tui.view import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.8431, "0.843"), (12.34, "12.3"), (123.9, "124"), (0.0000841, "8.41e-5"), (0, "0"), (-2.5, "-2.50"),
     (None, "–"), (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_significant(value, text):
    assert numbers.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (950, "950"), (999.96, "1k"), (87412, "87.4k"), (150000, "150k"), (1.5e6, "1.5M"), (12.25, "12.2")],
)
def test_count(value, text):
    assert numbers.count(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.4, "59s"), (59.9, "1m 00s"), (201, "3m 21s"), (3900, "1h 05m"), (184000, "2d 3h"), (None, "–")],
)
def test_duration(seconds, text):
    assert numbers.duration(seconds) == text


def test_percent_is_never_full_before_the_end():
    assert numbers.percent(999_999, 1_000_000) == "99%"
    assert numbers.percent(1_000_000, 1_000_000) == "100%"
    assert numbers.percent(3, 0) == "–"


def test_ago():
    assert numbers.ago(100.0, 130.0) == "just now"
    assert numbers.ago(0.0, 240.0) == "4 min ago"
    assert numbers.ago(0.0, 3 * 3600.0) == "3 h ago"
    assert numbers.ago(None, 1.0) == "–"


@given(st.one_of(st.none(), st.booleans(), st.text(), st.integers(), st.floats(), st.lists(st.integers())))
def test_finite_gives_a_finite_float_or_nothing(value):
    number = numbers.finite(value)
    assert number is None or (isinstance(number, float) and math.isfinite(number))
    if isinstance(value, bool):
        assert number is None


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_format_takes_every_float(value):
    for write in (numbers.significant, numbers.count, numbers.scientific, numbers.size, numbers.duration):
        assert 0 < len(write(value)) <= 320


@given(st.floats(min_value=1e-3, max_value=9e4))
def test_significant_is_close(value):
    assert float(numbers.significant(value)) == pytest.approx(value, rel=5.1e-3)
