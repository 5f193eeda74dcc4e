"""Two models timed by turns on a machine whose load changes, by a clock that is not the machine's."""

import random
import statistics
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import Stopped
from bitnet_core.evaluation.turns import FEWEST_ROUNDS, MOST_ROUNDS, ratio, spread, take_turns


class Machine:
    """A clock that runs on with each turn; `slowness` by time is how many times as long everything takes."""

    def __init__(self, slowness: Callable[[float], float]) -> None:
        self.now = 0.0
        self.slowness = slowness

    def model(self, tokens_per_s: float, tokens: int = 5) -> Callable[[int], float]:
        def turn(_round: int) -> float:
            began = self.now
            self.now += tokens / tokens_per_s * self.slowness(self.now)
            return tokens / (self.now - began)

        return turn


def busy(now: float) -> float:
    """Idle, then four times as slow, then something between that comes and goes."""
    return 1.0 if now < 2 else 4.0 if now < 5 else 2.0 + (int(now * 3) % 2)


def test_a_model_is_as_fast_as_itself_under_a_load_that_changes() -> None:
    machine = Machine(busy)
    ones, others = take_turns([machine.model(70), machine.model(70)], lambda: machine.now, 10)
    assert ratio(ones, others).median == pytest.approx(1, abs=0.02)
    # One after the other it is not, which is what the turns are for.
    machine = Machine(busy)
    first = statistics.median(machine.model(70)(0) for _ in range(30))
    second = statistics.median(machine.model(70)(0) for _ in range(30))
    assert first / second > 2


def test_noise_of_single_turns_does_not_move_the_ratio_much() -> None:
    noise = random.Random(7)
    machine = Machine(lambda now: busy(now) * noise.uniform(1, 1.2))
    ones, others = take_turns([machine.model(200), machine.model(50)], lambda: machine.now, 15)
    assert ratio(ones, others).median == pytest.approx(4, rel=0.05)


@given(st.floats(0.1, 1000), st.floats(0.001, 100))
def test_the_number_of_rounds_follows_the_time_within_bounds(speed: float, seconds: float) -> None:
    machine = Machine(lambda _: 1.0)
    seen: list[int] = []
    (turns,) = take_turns([machine.model(speed)], lambda: machine.now, seconds, seen.append)
    assert seen == list(range(1, len(turns) + 1))
    assert FEWEST_ROUNDS <= len(turns) <= MOST_ROUNDS
    if len(turns) > FEWEST_ROUNDS:
        assert (len(turns) - 1) * 5 / speed <= seconds * 1.001
    if len(turns) < MOST_ROUNDS:
        assert len(turns) * 5 / speed >= seconds * 0.999


def test_models_take_turns_in_order_and_a_stop_ends_them() -> None:
    asked: list[tuple[str, int]] = []

    def model(name: str) -> Callable[[int], float]:
        return lambda number: asked.append((name, number)) or 1.0

    def stop(rounds: int) -> None:
        if rounds == 2:
            raise Stopped("stopped")

    with pytest.raises(Stopped):
        take_turns([model("a"), model("b")], lambda: 0.0, 1, stop)
    assert asked == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_a_wide_spread_is_said_beside_the_number() -> None:
    assert (spread([10.0]).median, spread([10.0]).share, spread([10.0]).remark) == (10.0, 0.0, "")
    assert spread([9.9, 10.0, 10.1]).remark == ""
    wide = spread([8.0, 9.0, 10.0, 11.0, 12.0])
    assert (wide.median, wide.low, wide.high, wide.turns) == (10.0, 9.0, 11.0, 5)
    assert wide.remark == ", spread 20%"
