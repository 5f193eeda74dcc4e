"""Nothing but the number of tokens seen may move the flip."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.training.flip import FlipSchedule
from bitnet_core.training.schedule import Schedule

fractions = st.integers(0, 1000).map(lambda n: n / 1000)


@given(st.integers(1, 10**12), fractions)
def test_the_threshold_is_the_floor_of_the_decimal_product(budget: int, fraction: float) -> None:
    exact = Fraction(round(fraction * 1000), 1000) * budget
    assert FlipSchedule(budget, fraction).threshold == math.floor(exact)


def test_binary_fractions_do_not_lose_a_token() -> None:
    assert FlipSchedule(100, 0.29).threshold == 29
    assert math.floor(0.29 * 100) == 28


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 5000), fractions, st.data())
def test_neither_batch_split_nor_resume_moves_it(
    steps: list[int], budget: int, fraction: float, data: st.DataObject
) -> None:
    """`steps` are the tokens of each step; micro-batches and restarts cut the same tokens elsewhere."""
    schedule = FlipSchedule(budget, fraction)
    seen, expected = 0, []
    for tokens in steps:
        expected.append(8 if seen < schedule.threshold else 4)
        seen += tokens

    bits, seen = [], 0
    for tokens in steps:
        if data.draw(st.booleans()):
            schedule = FlipSchedule(budget, fraction)  # a new process knows settings and seen tokens alone
        bits.append(schedule.bits(seen))
        cut = data.draw(st.integers(0, tokens))
        seen += sum((cut, tokens - cut))
    assert bits == expected
    assert bits == sorted(bits, reverse=True)


def test_the_edges_of_the_fraction() -> None:
    assert FlipSchedule(100, 0.0).bits(0) == 4
    assert FlipSchedule(100, 1.0).bits(99) == 8
    assert FlipSchedule(100, 1.0).bits(100) == 4


@given(st.integers(1, 5000), st.floats(1e-5, 1), st.floats(0, 1))
def test_the_rate_warms_up_then_falls_to_the_floor(steps: int, peak: float, share: float) -> None:
    schedule = Schedule(peak, peak * share, steps)
    rates = [schedule.rate(step) for step in range(steps + 3)]
    top = schedule.warmup
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates[:steps])
    assert rates[:top] == sorted(rates[:top])
    assert rates[top - 1] == pytest.approx(peak)
    assert all(a >= b - 1e-15 for a, b in zip(rates[top:], rates[top + 1 :], strict=False))
    assert rates[-1] == schedule.floor
    if steps > 400:
        middle = (steps + top) // 2
        assert rates[middle] == pytest.approx((peak + schedule.floor) / 2, rel=0.02)
