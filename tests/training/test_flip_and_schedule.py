"""Only the number of seen tokens moves the flip; the learning rate follows its shape."""

import itertools
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.settings.flip import FlipPolicy
from bitnet_core.settings.values import FlipOptions, RateOptions, RateShape
from bitnet_core.training.flip import flip_report, layer_bits, recovery_due
from bitnet_core.training.schedule import Schedule


def flip(budget: int, fraction: float, policy: FlipPolicy = "hard", ramp: float = 0.0) -> FlipOptions:
    return FlipOptions(budget_tokens=budget, fraction=fraction, policy=policy, ramp_fraction=ramp)


def bits(options: FlipOptions, seen: int) -> int:
    """Bits of the layer that flips first."""
    return layer_bits(options, seen, 1)[0]


def schedule_of(peak: float, floor: float, steps: int, shape: RateShape = "cosine") -> Schedule:
    return Schedule(RateOptions(peak=peak, floor=floor, shape=shape), steps)


fractions = st.integers(0, 1000).map(lambda n: n / 1000)


@given(st.integers(1, 10**12), fractions)
def test_the_threshold_is_the_floor_of_the_decimal_product(budget: int, fraction: float) -> None:
    exact = Fraction(round(fraction * 1000), 1000) * budget
    assert flip(budget, fraction).threshold == math.floor(exact)


def test_binary_fractions_do_not_lose_a_token() -> None:
    assert flip(100, 0.29).threshold == 29
    assert math.floor(0.29 * 100) == 28


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60), st.integers(1, 5000), fractions, st.data())
def test_neither_batch_split_nor_resume_moves_it(
    steps: list[int], budget: int, fraction: float, data: st.DataObject
) -> None:
    """`steps` are the tokens of each step; micro-batches and restarts cut the same tokens elsewhere."""
    schedule = flip(budget, fraction)
    seen, expected = 0, []
    for tokens in steps:
        expected.append(8 if seen < schedule.threshold else 4)
        seen += tokens

    found, seen = [], 0
    for tokens in steps:
        if data.draw(st.booleans()):
            schedule = flip(budget, fraction)  # a new process knows settings and seen tokens alone
        found.append(bits(schedule, seen))
        cut = data.draw(st.integers(0, tokens))
        seen += sum((cut, tokens - cut))
    assert found == expected
    assert found == sorted(found, reverse=True)


def test_the_edges_of_the_fraction() -> None:
    assert bits(flip(100, 0.0), 0) == 4
    assert bits(flip(100, 1.0), 99) == 8
    assert bits(flip(100, 1.0), 100) == 4


@given(st.integers(1, 5000), st.floats(1e-5, 1), st.floats(0, 1))
def test_the_rate_warms_up_then_falls_to_the_floor(steps: int, peak: float, share: float) -> None:
    schedule = schedule_of(peak, peak * share, steps)
    rates = [schedule.rate(step) for step in range(steps + 3)]
    top = schedule.warmup
    assert all(0 < rate <= peak * (1 + 1e-12) for rate in rates[:steps])
    assert rates[:top] == sorted(rates[:top])
    assert rates[top - 1] == pytest.approx(peak)
    assert all(a >= b - 1e-15 for a, b in zip(rates[top:], rates[top + 1 :], strict=False))
    assert rates[-1] == schedule.options.floor
    if steps > 400:
        middle = (steps + top) // 2
        assert rates[middle] == pytest.approx((peak + schedule.options.floor) / 2, rel=0.02)


ramps = st.builds(
    lambda budget, fraction, ramp: flip(budget, fraction, "ramp", ramp),
    st.integers(1, 10**9),
    st.integers(0, 900).map(lambda n: n / 1000),
    st.integers(0, 100).map(lambda n: n / 1000),
)


@given(ramps, st.integers(1, 40), st.lists(st.floats(0, 1.2), max_size=30))
def test_a_ramp_flips_layers_in_order_and_never_back(schedule: FlipOptions, layers: int, places: list[float]) -> None:
    seen = sorted({0, schedule.threshold, schedule.completed_at, *(int(schedule.budget_tokens * p) for p in places)})
    flipped = []
    for tokens in seen:
        each = layer_bits(schedule, tokens, layers)
        count = each.count(4)
        assert each == (4,) * count + (8,) * (layers - count)
        flipped.append(count)
        assert (count > 0) == (tokens >= schedule.threshold) == (bits(schedule, tokens) == 4)
        if tokens >= schedule.completed_at:
            assert count == layers
    assert flipped == sorted(flipped)


@given(st.integers(2, 12), st.integers(12, 1000))
def test_a_ramp_flips_at_even_distances(layers: int, length: int) -> None:
    """The slow twin: layer i flips at the first token count that is i equal parts of the way."""
    schedule = flip(10_000, 0.5, "ramp", length / 10_000)
    for layer in range(layers):
        at = 5_000 + math.ceil(Fraction(layer * length, layers - 1))
        assert layer_bits(schedule, at, layers)[layer] == 4
        assert layer_bits(schedule, at - 1, layers)[layer] == 8


@given(st.integers(1, 10**6), fractions, st.integers(1, 8), st.integers(0, 10**6))
def test_a_hard_flip_takes_every_layer_at_once(budget: int, fraction: float, layers: int, seen: int) -> None:
    schedule = flip(budget, fraction)
    assert layer_bits(schedule, seen, layers) == (bits(schedule, seen),) * layers
    assert schedule.completed_at == schedule.threshold


@given(st.integers(20, 5000), st.floats(1e-5, 1), st.floats(0, 0.2))
def test_two_stages_fall_twice_and_decay_once(steps: int, peak: float, share: float) -> None:
    schedule = schedule_of(peak, peak * share, steps, "two_stage")
    rates = [schedule.rate(step) for step in range(steps + 1)]
    middle, top = steps // 2, schedule.warmup
    assert rates[top - 1] == pytest.approx(peak)
    for stage in (rates[top:middle], rates[middle:]):
        assert all(a >= b - 1e-15 for a, b in itertools.pairwise(stage))
    assert rates[middle] == pytest.approx(peak / 3)
    assert min(rates[top:middle]) >= peak * 8 / 15 * (1 - 1e-9)
    assert rates[-1] == schedule.options.floor
    assert [schedule.decays(step) for step in range(steps)] == [step < middle for step in range(steps)]
    assert all(schedule_of(peak, 0.0, steps).decays(step) for step in range(steps))


def measured(when: str, seen: int, loss: float) -> dict[str, object]:
    return {"when": when, "seen_tokens": seen, "heldout_loss": loss}


def test_the_report_of_a_flip_is_the_worst_loss_and_the_recovery() -> None:
    rows = [measured("start", 0, 9.0), measured("before flip", 100, 2.0), measured("after flip", 100, 2.2)]
    assert flip_report(rows[:2]) == {}
    assert flip_report(rows) == {"flip_shock": pytest.approx(0.2), "flip_recovered_after_tokens": None}
    rows += [measured("after flip", 120, 2.5), measured("recovery", 140, 2.1), measured("recovery", 170, 2.0)]
    assert flip_report(rows) == {"flip_shock": pytest.approx(0.5), "flip_recovered_after_tokens": 70}
    gained = [measured("before flip", 100, 2.0), measured("after flip", 100, 1.9)]
    assert flip_report(gained) == {"flip_shock": pytest.approx(-0.1), "flip_recovered_after_tokens": 0}


def recoveries(rows: list[dict[str, object]], steps: range, back_at: int) -> list[int]:
    """The steps of these reports at which a training measures that flipped at step 10, and is back at `back_at`."""
    rows[:0] = [measured("before flip", 100, 2.0) | {"step": 10}, measured("after flip", 100, 2.2) | {"step": 10}]
    for step in steps:
        if recovery_due(rows, step):
            rows.append(measured("recovery", 10 * step, 2.0 if step >= back_at else 2.1) | {"step": step})
    return [row["step"] for row in rows if row["when"] == "recovery"]  # type: ignore[misc]


def test_a_training_that_does_not_recover_looks_for_it_ever_more_rarely() -> None:
    reports = range(15, 200, 5)
    assert recoveries([], reports, 1000) == [15, 20, 30, 50, 90, 170]
    assert recoveries([], reports, 40) == [15, 20, 30, 50]
    other = measured("checkpoint", 400, 2.1) | {"step": 40}  # it tells as much
    assert recoveries([other], range(45, 200, 5), 1000) == [70, 130]
    assert not recovery_due([], 5)
