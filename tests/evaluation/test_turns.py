"""Models timed by turns on a machine whose load changes, by a clock that is not the machine's."""

import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import Stopped
from bitnet_core.evaluation.turns import (
    FASTEST_TURNS,
    FEWEST_ROUNDS,
    MOST_ROUNDS,
    fastest,
    spread,
    take_turns,
)

TURN_SECONDS = 0.12


class Machine:
    """A clock that runs on with each turn. `slowness` lists until when everything takes how many times as long."""

    def __init__(self, slowness: list[tuple[float, float]], noise: random.Random | None = None) -> None:
        self.now = 0.0
        self._slowness = [*slowness, (float("inf"), 1.0)]
        self._noise = noise

    def model(self, tokens_per_s: float, seconds: float = TURN_SECONDS) -> Callable[[], float]:
        def turn() -> float:
            began, work = self.now, seconds
            if self._noise:
                work *= 1 + abs(self._noise.gauss(0, 0.02))
            while work > 0:
                until, times = next((until, times) for until, times in self._slowness if until > self.now)
                done = min(work, (until - self.now) / times)
                self.now = until if done < work else self.now + work * times
                work -= done
            return tokens_per_s * seconds / (self.now - began)

        return turn


def beside_itself(machine: Machine, times: float = 1) -> list[list[float]]:
    """The turns of a model and of another one that is `times` as fast."""
    return take_turns([machine.model(70 * times), machine.model(70)], lambda: machine.now, 60)


def loaded(draws: random.Random) -> list[tuple[float, float]]:
    """Slowdowns that each last longer than a turn: off and on, or by any factor."""
    worst, longest, both = draws.uniform(1, 4), draws.choice([3, 10, 60]), draws.random() < 0.5
    until, slowness = 0.0, []
    while until < 6 * 4 * TURN_SECONDS * MOST_ROUNDS:
        until += TURN_SECONDS * draws.uniform(1.1, longest)
        slowness.append((until, draws.choice([1.0, worst]) if both else draws.uniform(1, worst)))
    return slowness


@given(st.integers(0, 2**32), st.floats(0.05, 50))
def test_slowdowns_leave_a_ratio_within_two_percent_or_it_is_called_unsure(seed: int, times: float) -> None:
    draws = random.Random(seed)
    one, other = map(fastest, beside_itself(Machine(loaded(draws), draws), times))
    if one.sure and other.sure:
        assert one.speed / other.speed == pytest.approx(times, rel=0.02)


def test_few_loads_leave_it_unsure() -> None:
    unsure, first, second = 0, [], []
    for seed in range(50):
        draws = random.Random(seed)
        slowness = loaded(draws)
        unsure += not all(fastest(values).sure for values in beside_itself(Machine(slowness, draws)))
        # One model after the other, which is what the turns are for.
        machine = Machine(slowness)
        first.append(statistics.median(machine.model(70)() for _ in range(30)))
        second.append(statistics.median(machine.model(70)() for _ in range(30)))
    assert unsure <= 20
    assert sum(abs(one / other - 1) > 0.02 for one, other in zip(first, second, strict=True)) > 25


def test_a_load_that_rises_steadily_meets_both_alike() -> None:
    steps = [(TURN_SECONDS * step, 1 + step / 100) for step in range(1, 1200)]
    ones, others = beside_itself(Machine(steps))
    assert statistics.fmean(ones) == pytest.approx(statistics.fmean(others), rel=0.005)


@given(st.floats(0.01, 3), st.floats(0.001, 100), st.booleans())
def test_rounds_go_on_until_the_fastest_turns_agree_or_the_time_is_over(
    turn: float, seconds: float, steady: bool
) -> None:
    machine, draws, seen = Machine([]), random.Random(1), list[int]()

    def model() -> float:
        return machine.model(70, turn)() * (1 if steady else 2 ** draws.uniform(0, 40))

    (turns,) = take_turns([model], lambda: machine.now, seconds, seen.append)
    assert seen == list(range(1, len(turns) // 2 + 1))
    assert FEWEST_ROUNDS <= len(seen) <= MOST_ROUNDS
    if steady:
        assert len(seen) == FEWEST_ROUNDS
    elif len(seen) < MOST_ROUNDS:
        assert machine.now >= seconds * 0.999
    if len(seen) > FEWEST_ROUNDS:
        assert (len(seen) - 1) * 2 * turn <= seconds * 1.001


def test_models_take_turns_in_order_and_a_stop_ends_them() -> None:
    asked: list[str] = []

    def model(name: str) -> Callable[[], float]:
        return lambda: asked.append(name) or 1.0

    def stop(rounds: int) -> None:
        if rounds == 2:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        take_turns([model("a"), model("b")], lambda: 0.0, 1, stop)
    assert "".join(asked) == "abbabaab"


def test_the_fastest_turns_count_and_whether_they_agree() -> None:
    found = fastest([100.0, 20.0, 99.0, 98.6, 50.0, 98.5])
    assert (found.speed, found.agreeing, found.turns) == (pytest.approx((100 + 99 + 98.6) / 3), 3, 6)
    assert not found.sure
    assert not fastest([7.0] * (FASTEST_TURNS - 1) + [6.0] * 9).sure
    assert fastest([7.0] * FASTEST_TURNS + [6.0] * 9).sure


def test_a_wide_spread_is_said_beside_the_number() -> None:
    assert (spread([10.0]).median, spread([10.0]).share, spread([10.0]).remark) == (10.0, 0.0, "")
    assert spread([9.9, 10.0, 10.1]).remark == ""
    wide = spread([8.0, 9.0, 10.0, 11.0, 12.0])
    assert (wide.median, wide.low, wide.high, wide.turns) == (10.0, 9.0, 11.0, 5)
    assert wide.remark == ", spread 20%"
