"""The pace behind servers with limits: its time relative to a sender that knows the limits, and its refusals.

The bounds hold for at least 40 s of work and 60 answers; less work may take longer in proportion.
"""

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.teachers.http.pace import Pace
from tests.fuzzing import BY_HAND
from tests.teachers.limiters import enough, outcome
from tests.teachers.virtual_time import run

RATES = (0.2, 0.5, 1.0, 2.0, 4.0, 10.0, 50.0)
LATENCIES = (0.05, 0.5, 2.0, 5.0)
FAILING = (0.0, 0.1, 0.3)


@pytest.mark.fuzz
@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("burst", [0, 5, 20, 60])
@pytest.mark.parametrize("rate", RATES)
def test_behind_a_limited_rate(rate: float, burst: int, retry_after: float | None) -> None:
    # Latencies, shares of failures and seeds take turns, so that all combinations of them occur; in `make test` half.
    place = RATES.index(rate) + burst + int(retry_after or 0)
    for step, seconds in enumerate(LATENCIES):
        if not BY_HAND and (place + step) % 2:
            continue
        failing = FAILING[(place + step) % len(FAILING)]
        found = outcome(
            enough(rate, burst),
            rate=rate,
            burst=burst,
            seconds=seconds,
            failing=failing,
            retry_after=retry_after,
            seed=place + step,
        )
        # At 50 requests a second, each second that a refusal asks to wait costs 50 requests, even during the search.
        slower = retry_after is not None and rate == 50
        assert found.ratio <= (1.5 if slower else 1.3), (seconds, failing, found)
        assert found.refusals < 0.5, (seconds, failing, found)


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("most", [1, 2, 3, 6, 20])
def test_behind_a_limit_on_requests_at_once(most: int, retry_after: float | None) -> None:
    # 20 at once of half a second each are 40 requests a second, so the looser bound applies as above.
    for place, (seconds, failing) in enumerate(itertools.product((0.5, 2.0, 5.0), FAILING)):
        found = outcome(
            int(max(100, 40 * most / seconds)),
            64,
            most=most,
            seconds=seconds,
            failing=failing,
            retry_after=retry_after,
            seed=place,
        )
        assert found.ratio <= (1.7 if most / seconds > 20 else 1.35), (seconds, failing, found)
        assert found.refusals < 0.25, (seconds, failing, found)
        assert found.pace.at_once < most + 5, (seconds, failing, found)


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize(("rate", "most"), list(itertools.product((1.0, 4.0, 20.0), (1, 3, 6, 20))))
def test_behind_both_limits_together(rate: float, most: int, retry_after: float | None) -> None:
    found = outcome(
        int(max(60, 40 * min(rate, most / 2))), 64, rate=rate, most=most, seconds=2.0, retry_after=retry_after
    )
    assert found.ratio <= 1.3, found
    assert found.refusals < 0.4, found


limits = st.fixed_dictionaries(
    {
        "rate": st.floats(0.2, 20),
        "burst": st.integers(0, 60),
        "seconds": st.floats(0.05, 5),
        "failing": st.floats(0, 0.3),
        "retry_after": st.one_of(st.none(), st.floats(0.1, 2)),
        "most": st.one_of(st.just(10**9), st.integers(1, 30)),
        "seed": st.integers(0, 1000),
    }
)


@settings(max_examples=30)
@given(limits)
def test_the_rate_never_runs_away(limiter: dict[str, Any]) -> None:
    rate = min(limiter["rate"], limiter["most"] / limiter["seconds"])
    found = outcome(enough(rate, limiter["burst"]), **limiter)
    assert found.ratio <= 2, found
    assert found.refusals < 0.5, found
    assert found.pace.rate is None or found.pace.rate < 1000


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_few_requests_at_a_slow_rate_take_at_most_twice_as_long(rate: float) -> None:
    for burst in (0, 5):
        found = outcome(12, rate=rate, burst=burst)
        assert found.ratio <= 2, (burst, found)
        assert found.refusals <= 1.5, (burst, found)


def test_a_limit_that_was_raised_is_used() -> None:
    """The limiter allows 2 requests a second at first, then 10."""

    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        pace = Pace(32, clock=loop.time)
        last = float("-inf")
        taken = 0

        async def worker() -> None:
            nonlocal last, taken
            while loop.time() < 300:
                async with pace.turn() as turn:
                    if loop.time() - last < (0.5 if loop.time() < 100 else 0.1) - 1e-9:
                        await asyncio.sleep(0.05)
                        pace.refused(turn, 0.1)
                        continue
                    last = loop.time()
                    taken += loop.time() >= 200
                    await asyncio.sleep(0.2)
                    pace.answered(turn)

        await asyncio.gather(*(worker() for _ in range(32)))
        return taken / 100

    assert run(scenario()) > 8


def test_without_limits_all_places_are_used() -> None:
    found = outcome(640, seconds=1.0)
    assert found.seconds <= 1.25 * 640 / 32
    assert found.pace.rate is None
    assert int(found.pace.at_once) == 32


def test_a_pause_holds_for_all_requests() -> None:
    async def scenario() -> list[float]:
        loop = asyncio.get_running_loop()
        pace = Pace(8, clock=loop.time)
        starts: list[float] = []

        async def one(number: int) -> None:
            async with pace.turn() as turn:
                starts.append(turn.began)
                if number == 0:
                    pace.pause(30)
                await asyncio.sleep(1)

        await asyncio.gather(*(one(number) for number in range(5)))
        return starts

    starts = run(scenario())
    assert starts[0] == 0
    assert min(starts[1:]) >= 30


def test_a_server_that_refuses_everything_is_asked_at_least_once_a_minute() -> None:
    """If the rate were halved without end, the fortieth request would come after a thousand years."""

    async def request_times() -> list[float]:
        loop = asyncio.get_running_loop()
        pace = Pace(4, clock=loop.time)
        times = []
        for _ in range(40):
            async with pace.turn() as turn:
                times.append(loop.time())
                pace.refused(turn, 0.1)
        return times

    times = run(request_times())
    assert 30 < max(after - before for before, after in itertools.pairwise(times)) < 61


def test_a_cancelled_turn_gives_its_place_back() -> None:
    async def scenario() -> bool:
        pace = Pace(1, clock=asyncio.get_running_loop().time)

        async def hold() -> None:
            async with pace.turn():
                await asyncio.sleep(100)

        tasks = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(1), pace.turn():
            return True

    assert run(scenario())
