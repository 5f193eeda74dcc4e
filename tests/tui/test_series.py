"""Curves in bounded memory: extremes and gaps survive."""

import math

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.results.series import Series, thin

_value = st.one_of(st.none(), st.floats(min_value=-1e6, max_value=1e6))


def _points(series: Series) -> list[tuple[float, float]]:
    return [point for segment in series.segments() for point in segment]


@given(st.lists(_value, max_size=600), st.integers(min_value=2, max_value=32))
def test_points_are_real_and_extremes_survive(values, capacity):
    series = Series(capacity=capacity)
    for x, y in enumerate(values):
        series.append(float(x), y)
    kept = _points(series)
    given_points = {(float(x), y) for x, y in enumerate(values) if y is not None}
    assert set(kept) <= given_points
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    assert len(kept) <= 2 * (2 * capacity + 1)
    if given_points:
        assert min(y for _, y in kept) == min(y for _, y in given_points)
        assert max(y for _, y in kept) == max(y for _, y in given_points)


@given(st.lists(_value, max_size=100))
def test_short_series_keep_every_point_and_every_gap(values):
    series = Series(capacity=100)
    for x, y in enumerate(values):
        series.append(float(x), y)
    expected: list[list[tuple[float, float]]] = [[]]
    for x, y in enumerate(values):
        if y is None:
            expected.append([])
        else:
            expected[-1].append((float(x), y))
    assert [list(segment) for segment in series.segments()] == [part for part in expected if part]


def test_a_million_points_stay_small_and_the_spike_survives():
    series = Series()
    for step in range(1_000_000):
        series.append(float(step), 9.0 if step == 123_457 else 1.0 + step * 1e-9)
    points = _points(series)
    assert len(points) <= 4 * series.capacity + 2
    assert (123_457.0, 9.0) in points


@given(st.lists(st.floats(min_value=-1e3, max_value=1e3), min_size=1, max_size=500), st.integers(2, 60))
def test_thinning_keeps_the_extremes(values, most):
    segment = tuple((float(x), y) for x, y in enumerate(values))
    thinned = [point for part in thin([segment], most) for point in part]
    assert len(thinned) <= max(most, 2)
    assert set(thinned) <= set(segment)
    assert min(y for _, y in thinned) == min(values)
    assert max(y for _, y in thinned) == max(values)


def test_thinning_joins_a_curve_with_many_gaps():
    segments = [((float(x), math.sin(x)),) for x in range(1000)]
    assert len(thin(segments, 100)) == 1


@given(
    st.lists(st.one_of(_value, st.integers(), st.sampled_from([math.nan, math.inf, 1e31, 10**400])), max_size=300),
    st.integers(min_value=2, max_value=16),
    st.integers(min_value=1, max_value=60),
)
def test_many_points_at_once_are_as_one_by_one(values, capacity, piece):
    one_by_one, at_once = Series(capacity=capacity), Series(capacity=capacity)
    for x, y in enumerate(values):
        one_by_one.append(float(x), None if y == 10**400 else float(y) if y is not None else None)
    for first in range(0, len(values), piece):
        part = values[first : first + piece]
        at_once.extend([float(first + place) for place in range(len(part))], part)
    assert repr(at_once.segments()) == repr(one_by_one.segments())
    assert at_once.not_finite() == one_by_one.not_finite()


@given(st.lists(_value, max_size=600), st.integers(min_value=2, max_value=32))
def test_the_newest_point_is_the_last_one(values, capacity):
    series = Series(capacity=capacity)
    series.extend([float(x) for x in range(len(values))], values)
    newest = [(float(x), y) for x, y in enumerate(values) if y is not None]
    assert _points(series)[-1:] == newest[-1:]
