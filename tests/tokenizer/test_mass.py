"""The mass rule: never a lost step, never a sum of 1 or more, garbage distinguished from rounding."""

import math
from collections.abc import Sequence
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.tokenizer.mass import (
    EPSILON,
    first_fault,
    log_sum_exp,
    rebalance,
    round_to_grid,
    settle,
    step_fault,
)
from bitnet_core.tokenizer.steps import TeacherStep, TokenTable
from tests.builders import completion_of_steps

getcontext().prec = 60

logprob_lists = st.lists(st.floats(-60, 0), min_size=1, max_size=25)


def exact_mass(logprobs: list[float] | tuple[float, ...]) -> Decimal:
    return sum((Decimal(logprob).exp() for logprob in logprobs), Decimal(0))


def slow_settle(logprobs: Sequence[float]) -> tuple[tuple[float, ...], float, bool]:
    """The slow twin, for one step: logprobs, Other, and whether they were scaled down."""
    total = log_sum_exp(logprobs)
    if total <= math.log1p(-EPSILON):
        return tuple(logprobs), math.log(-math.expm1(total)), False
    excess = total - math.log1p(-EPSILON)
    return tuple(logprob - excess for logprob in logprobs), math.log(EPSILON), True


def settled(logprobs: Sequence[float]) -> tuple[list[float], float, bool]:
    """The same from `settle`."""
    found = settle(np.array([logprobs]))
    return found.logprobs_NK[0].tolist(), float(found.other_N[0]), bool(found.clamped_N[0])


def step(*top: float, logprob: float = -1.0) -> TeacherStep:
    return TeacherStep(1, b"a", logprob, tuple(range(len(top))), (b"a",) * len(top), top)


@given(logprob_lists)
def test_the_sum_of_logs_agrees_with_exact_arithmetic(logprobs: list[float]) -> None:
    assert log_sum_exp(logprobs) == pytest.approx(float(exact_mass(logprobs).ln()), abs=1e-12)


@given(logprob_lists)
def test_settled_mass_and_other_sum_to_one(logprobs: list[float]) -> None:
    kept, other, _ = settled(logprobs)
    assert abs(exact_mass(kept) + Decimal(other).exp() - 1) < Decimal("1e-9")
    assert all(logprob < 0 for logprob in kept)
    assert other >= math.log(EPSILON) - 1e-6


@given(logprob_lists)
def test_mass_with_room_is_left_bit_for_bit(logprobs: list[float]) -> None:
    kept, _, clamped = settled(logprobs)
    room = 1 - exact_mass(logprobs)
    if abs(room - Decimal(EPSILON)) > Decimal("1e-12"):
        assert clamped == (room < Decimal(EPSILON))
    if not clamped:
        assert kept == logprobs


def test_rounding_above_one_is_scaled_and_counted() -> None:
    logprobs = (math.log(0.6), math.log(0.40000002))
    kept, _, clamped = settled(logprobs)
    assert clamped
    assert math.fsum(map(math.exp, kept)) == pytest.approx(1 - EPSILON, abs=1e-12)
    assert kept[0] - kept[1] == pytest.approx(logprobs[0] - logprobs[1], abs=1e-12)


@given(logprob_lists, st.floats(-1e-3, 1e-3))
def test_rebalanced_mass_sums_to_one_and_keeps_its_proportions(logprobs: list[float], off: float) -> None:
    kept, other, _ = settled(logprobs)
    found = rebalance(np.array([kept]) + off, np.array([other]))
    assert abs(exact_mass(found.logprobs_NK[0].tolist()) + Decimal(float(found.other_N[0])).exp() - 1) < Decimal(
        "1e-9"
    )
    assert found.logprobs_NK[0] - found.other_N[0] == pytest.approx(np.array(kept) + off - other, abs=1e-9)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (step(math.nan), "nan_logprob"),
        (step(-1.0, math.inf), "infinite_logprob"),
        (step(-1.0, -9999.0), "sentinel_logprob"),
        (step(-1.0, logprob=-9999.0), "sentinel_logprob"),
        (step(math.log(0.7), math.log(0.35)), "mass_above_one"),
        (step(), "no_candidates"),
    ],
)
def test_garbage_is_named(bad: TeacherStep, reason: str) -> None:
    assert step_fault(bad) == reason


def test_good_steps_have_no_fault() -> None:
    assert step_fault(step(-0.1, -3.0)) is None
    assert step_fault(step(math.log(0.6), math.log(0.4001))) is None


_STRANGE = st.one_of(st.floats(-20, 0), st.sampled_from([math.nan, math.inf, -math.inf, -9999.0, 0.5]))
_WILD = st.builds(
    lambda logprob, tops: TeacherStep(1, b"a", logprob, (1,) * len(tops), (b"a",) * len(tops), tuple(tops)),
    _STRANGE,
    st.lists(_STRANGE, max_size=5),
)


@given(st.lists(_WILD, min_size=1, max_size=6))
def test_the_first_fault_of_a_completion_is_that_of_its_first_faulty_step(steps: list[TeacherStep]) -> None:
    completion = completion_of_steps(steps, TokenTable())
    reasons = [step_fault(completion.step(row)) for row in range(len(steps))]
    assert first_fault(completion) == next((reason for reason in reasons if reason is not None), None)


@given(st.lists(logprob_lists, min_size=1, max_size=6))
def test_settling_all_at_once_is_settling_each(rows: list[list[float]]) -> None:
    width = max(map(len, rows))
    padded = np.array([row + [-math.inf] * (width - len(row)) for row in rows])
    found = settle(padded)
    for place, row in enumerate(rows):
        logprobs, other, clamped = slow_settle(row)
        assert found.clamped_N[place] == clamped
        assert found.other_N[place] == pytest.approx(other, abs=1e-6, rel=1e-6)
        assert found.logprobs_NK[place, : len(row)] == pytest.approx(np.array(logprobs), abs=1e-12)
        if not clamped:
            assert found.logprobs_NK[place, : len(row)].tolist() == row


@given(st.lists(st.lists(st.floats(-30, 0), min_size=4, max_size=4), min_size=1, max_size=20))
def test_rounding_stays_within_its_bounds(drawn: list[list[float]]) -> None:
    logits = np.sort(np.array(drawn), axis=1)[:, ::-1]
    exact = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    stored_NK, other_N = round_to_grid(exact[:, :3], exact[:, 3])
    assert np.abs(stored_NK[:, 0] - exact[:, 0]).max() <= 1e-3
    assert np.abs(stored_NK - exact[:, :3]).max() <= 1e-2
    assert np.abs(other_N - exact[:, 3]).max() <= 1e-2
    assert (np.diff(stored_NK, axis=1) <= 0).all()
    assert max(stored_NK.max(), other_N.max()) <= 0
    mass = np.exp(stored_NK.astype(float)).sum(axis=1) + np.exp(other_N.astype(float))
    assert np.abs(mass - 1).max() <= 6e-4
