"""The pace behind servers that limit: how much of the ideal time it takes, how many refusals it earns."""

import asyncio
import random
from dataclasses import dataclass, field

import pytest

from bitnet_core.providers.pace import Pace
from tests.providers.virtual_time import run


@dataclass
class Limiter:
    """nginx's `limit_req`: a bucket that leaks `rate` requests a second; `most` limits those at once."""

    rate: float = 1e9
    burst: int = 0
    most: int = 10**9
    seconds: float = 0.05
    retry_after: float | None = None
    failing: float = 0.0
    draw: random.Random = field(default_factory=lambda: random.Random(1))
    refused: int = 0
    failed: int = 0
    taken: int = 0
    at_once: int = 0
    _excess: float = 0.0
    _last: float | None = None

    async def answer(self) -> int:
        now = asyncio.get_running_loop().time()
        excess = 0.0 if self._last is None else max(0.0, self._excess - (now - self._last) * self.rate + 1)
        if (self.rate < 1e9 and excess > self.burst + 1e-9) or self.at_once >= self.most:
            self.refused += 1
            return 429
        self._excess, self._last = excess, now
        self.taken += 1
        if self.draw.random() < self.failing:
            self.failed += 1
            return 503
        self.at_once += 1
        await asyncio.sleep(self.seconds * self.draw.uniform(0.5, 1.5))
        self.at_once -= 1
        return 200


async def load(limiter: Limiter, requests: int, workers: int) -> tuple[float, Pace]:
    loop = asyncio.get_running_loop()
    pace = Pace(workers, clock=loop.time)
    waiting = iter(range(requests))

    async def worker() -> None:
        for _ in waiting:
            failures = 0
            while True:
                async with pace.turn() as turn:
                    status = await limiter.answer()
                    if status == 429:
                        pace.refused(turn, limiter.retry_after)
                    elif status == 200:
                        pace.answered(turn)
                        break
                if status == 503:
                    failures += 1
                    await asyncio.sleep(0.5 * 2**failures * limiter.draw.uniform(0.5, 1))

    await asyncio.gather(*(worker() for _ in range(workers)))
    return loop.time(), pace


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("burst", [0, 5])
def test_behind_four_requests_a_second_with_random_failures(seed: int, retry_after: float | None, burst: int) -> None:
    limiter = Limiter(rate=4, burst=burst, retry_after=retry_after, failing=0.08, draw=random.Random(seed))
    took, _ = run(load(limiter, 200, 32))
    assert took <= 1.3 * limiter.taken / 4
    assert limiter.refused < 0.5 * 200


def test_slow_answers_do_not_hide_the_rate() -> None:
    limiter = Limiter(rate=4, seconds=5.0)
    took, pace = run(load(limiter, 400, 64))
    assert took <= 1.4 * 400 / 4
    assert pace.at_once > 16


def test_a_limit_on_requests_at_once_is_found_too() -> None:
    limiter = Limiter(most=6, seconds=2.0)
    took, pace = run(load(limiter, 300, 64))
    assert took <= 1.6 * 300 * 2.0 / 6
    assert limiter.refused < 0.5 * 300
    assert pace.at_once < 20


def test_nobody_objects_and_all_places_are_taken() -> None:
    limiter = Limiter(seconds=1.0)
    took, pace = run(load(limiter, 640, 32))
    assert took <= 1.25 * 640 / 32
    assert pace.rate is None
    assert int(pace.at_once) == 32


def test_a_wait_holds_for_all() -> None:
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
