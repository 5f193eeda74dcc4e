"""Intervals hold what they should, repeat with their seed, and never claim certainty from a few items."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.suites import intervals

passes = st.lists(st.booleans(), min_size=1, max_size=60)


@settings(max_examples=30)
@given(passes, st.integers(0, 1000))
def test_the_interval_holds_the_share_and_repeats(passed: list[bool], seed: int) -> None:
    found = intervals.share(passed, seed)
    assert found.value == pytest.approx(sum(passed) / len(passed))
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value - 1e-12 <= found.high <= 1
    assert found == intervals.share(passed, seed)


def test_it_agrees_with_drawing_items_one_by_one() -> None:
    values = [0.0, 1.0, 1.0, 3.0, 7.0, 2.0, 2.5, 0.5]
    rng = np.random.default_rng(7)
    means = sorted(float(rng.choice(values, len(values)).mean()) for _ in range(20_000))
    found = intervals.mean(values, 1, resamples=20_000)
    assert found.low == pytest.approx(means[500], abs=0.13)
    assert found.high == pytest.approx(means[19_500], abs=0.13)


def test_it_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(150):
        found = intervals.share((rng.random(80) < 0.4).tolist(), trial, resamples=400)
        held += found.low <= 0.4 <= found.high
    assert 0.90 <= held / 150 <= 0.99


def test_a_few_items_without_spread_are_not_certain() -> None:
    assert intervals.share([True] * 4, 0).low == pytest.approx(0.025**0.25)
    assert intervals.share([False] * 4, 0).high == pytest.approx(1 - 0.025**0.25)
    assert intervals.macro_share([[True] * 3, [True]], 0).low == pytest.approx(0.025**0.25)


def test_groups_that_pass_as_a_whole_or_not_at_all_are_not_certain() -> None:
    found = intervals.macro_share([[True] * 3, [False] * 3, [False] * 3], 0)
    assert found.low < 0.15 and found.high > 0.6
    assert intervals.macro_share([[True], [False]], 0).low < 0.05
    # A trial with true shares of 0.9, 0.1 and 0.1: of 3 items each, most draws have no spread.
    rng, held = np.random.default_rng(3), 0
    for trial in range(150):
        groups = [(rng.random(3) < truth).tolist() for truth in (0.9, 0.1, 0.1)]
        one = intervals.macro_share(groups, trial, resamples=400)
        held += one.low <= 1.1 / 3 <= one.high
    assert held / 150 >= 0.95


def test_groups_count_alike_whatever_their_size() -> None:
    found = intervals.macro_share([[True] * 50, [False, False], []], 5)
    assert found.value == pytest.approx(0.5)
    mixed = intervals.macro_share([[True, False] * 20, [True, True, False, False]], 5)
    assert mixed.low < 0.5 < mixed.high
    assert intervals.macro_share([[True, False]], 5) == intervals.share([True, False], 5)


def test_one_set_of_draws_serves_paired_figures() -> None:
    drawn = intervals.draws(10, 3)
    assert drawn.shape == (intervals.RESAMPLES, 10)
    assert (drawn.sum(axis=1) == 10).all()
    values = np.arange(10.0)
    same = intervals.estimate(1.0, (drawn @ values) / (drawn @ values))
    assert (same.low, same.high) == (1.0, 1.0)


def test_nothing_has_no_mean() -> None:
    for empty in (intervals.mean, intervals.share):
        with pytest.raises(ValueError, match="at least one"):
            empty([], 0)
    with pytest.raises(ValueError, match="at least one"):
        intervals.macro_share([[], []], 0)
    assert intervals.estimate(2.0, np.array([np.nan])) == intervals.Estimate(2.0, 2.0, 2.0)
