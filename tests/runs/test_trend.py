"""Where a held-out loss goes: its slope and its rises, each against a slow twin."""

import itertools
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bitnet_core.runs.trend import RISEN, rises, slope

_finite = st.floats(-1e3, 1e3).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(_finite, _finite), max_size=12))
@example([(85.614, 0.0)] * 3)
def test_the_slope_is_that_of_least_squares(points):
    """The twin solves the normal equations in fractions."""
    n = len(points)
    exact = [(Fraction(x), Fraction(y)) for x, y in points]
    sx, sy = sum(x for x, _ in exact), sum(y for _, y in exact)
    sxx, sxy = sum(x * x for x, _ in exact), sum(x * y for x, y in exact)
    below = n * sxx - sx * sx
    found = slope(points)
    if not below:
        assert found is None
    else:
        assert found == pytest.approx(float((n * sxy - sx * sy) / below), rel=1e-6, abs=1e-6)


@given(st.lists(st.sampled_from([1.0, 1.002, 1.1, 1.3, 2.0]), max_size=12))
def test_rises_are_counted_back_from_the_last_loss(losses):
    longest = max(
        (k for k in range(len(losses)) if all(a < b for a, b in itertools.pairwise(losses[len(losses) - 1 - k :]))),
        default=0,
    )
    negligible = not longest or losses[-1] <= losses[-1 - longest] * (1 + RISEN)
    assert rises(losses) == (0 if negligible else longest)
