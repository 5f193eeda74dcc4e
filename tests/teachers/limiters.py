"""Servers with limits, in virtual time, and a sender that knows the limits, to compare the pace with.

`python -m tests.teachers.limiters [N]` prints how the pace does behind N random limiters.
"""

import asyncio
import contextlib
import math
import random
import statistics
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol

from bitnet_core.teachers.http.pace import Pace, Turn
from tests.teachers.virtual_time import run

_REFUSAL_SECONDS = 0.05


@dataclass
class Limiter:
    """nginx's `limit_req`, a bucket that leaks `rate` requests a second; `most` limits the requests at once."""

    rate: float | None = None
    burst: int = 0
    most: int = 10**9
    seconds: float = 0.05
    retry_after: float | None = None
    failing: float = 0.0
    seed: int = 1
    refused: int = 0
    failed: int = 0
    taken: int = 0
    at_once: int = 0
    draw: random.Random = field(init=False)
    _excess: float = 0.0
    _last: float | None = None

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    async def answer(self) -> int:
        now = asyncio.get_running_loop().time()
        excess = 0.0
        if self.rate is not None and self._last is not None:
            excess = max(0.0, self._excess - (now - self._last) * self.rate + 1)
        if excess > self.burst + 1e-9 or self.at_once >= self.most:
            self.refused += 1
            await asyncio.sleep(_REFUSAL_SECONDS * self.draw.uniform(0.5, 1.5))
            return 429
        self._excess, self._last = excess, now
        self.taken += 1
        if self.draw.random() < self.failing:
            self.failed += 1
            await asyncio.sleep(_REFUSAL_SECONDS)
            return 503
        self.at_once += 1
        await asyncio.sleep(self.seconds * self.draw.uniform(0.5, 1.5))
        self.at_once -= 1
        return 200


class Sender(Protocol):
    def turn(self) -> contextlib.AbstractAsyncContextManager[Turn]: ...

    def answered(self, turn: Turn) -> None: ...

    def refused(self, turn: Turn, wait: float | None) -> None: ...


class IdealSender:
    """Knows the limits: sends as early as they allow, and never too early."""

    def __init__(self, limiter: Limiter, most: int) -> None:
        self._rate, self._burst = limiter.rate, limiter.burst
        self._places = asyncio.Semaphore(min(most, limiter.most))
        self._door = asyncio.Lock()
        self._tokens, self._at = limiter.burst + 1.0, 0.0

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        async with self._places:
            if self._rate is not None:
                await self._token(self._rate)
            yield Turn(0, 0.0, 0.0, 0)

    async def _token(self, rate: float) -> None:
        clock = asyncio.get_running_loop().time
        async with self._door:
            self._tokens = min(self._burst + 1.0, self._tokens + (clock() - self._at) * rate)
            self._at = clock()
            if self._tokens < 1:
                await asyncio.sleep((1 - self._tokens) / rate * (1 + 1e-6))
                self._tokens, self._at = 1.0, clock()
            self._tokens -= 1

    def answered(self, turn: Turn) -> None:
        """There is nothing to learn."""

    def refused(self, turn: Turn, wait: float | None) -> None:
        raise AssertionError("a sender that knows the limits is never refused")


async def seconds_for(limiter: Limiter, sender: Sender, requests: int, workers: int) -> float:
    """Seconds until all requests have been answered."""
    waiting = iter(range(requests))

    async def worker() -> None:
        for _ in waiting:
            failures = 0
            while True:
                async with sender.turn() as turn:
                    status = await limiter.answer()
                    if status == 429:
                        sender.refused(turn, limiter.retry_after)
                    elif status == 200:
                        sender.answered(turn)
                        break
                if status == 503:
                    failures += 1
                    await asyncio.sleep(0.5 * 2 ** min(failures, 2) * limiter.draw.uniform(0.5, 1))

    await asyncio.gather(*(worker() for _ in range(workers)))
    return asyncio.get_running_loop().time()


@dataclass(frozen=True)
class Outcome:
    ratio: float
    """Time relative to the ideal sender's."""
    refusals: float
    """Per answer."""
    seconds: float
    pace: Pace


def outcome(requests: int, workers: int = 32, **limits: float | None) -> Outcome:
    async def learning() -> tuple[float, Pace]:
        pace = Pace(workers, clock=asyncio.get_running_loop().time)
        return await seconds_for(limiter, pace, requests, workers), pace

    async def knowing() -> float:
        twin = Limiter(**limits)  # type: ignore[arg-type]
        return await seconds_for(twin, IdealSender(twin, workers), requests, workers)

    limiter = Limiter(**limits)  # type: ignore[arg-type]
    took, pace = run(learning())
    return Outcome(took / run(knowing()), limiter.refused / requests, took, pace)


def enough(rate: float, burst: int = 0) -> int:
    """Requests for 40 s of work after the burst, and at least 60."""
    return int(max(60, 40 * rate)) + burst


def main(count: int) -> None:
    draw = random.Random(5)
    found = []
    for seed in range(count):
        rate = math.exp(draw.uniform(math.log(0.2), math.log(50)))
        seconds = math.exp(draw.uniform(math.log(0.05), math.log(5)))
        most = draw.choice([10**9, draw.randint(1, 30)])
        burst = draw.choice([0, draw.randint(0, 60)])
        failing, retry_after = draw.choice([0, draw.uniform(0, 0.3)]), draw.choice([None, draw.uniform(0.1, 2)])
        found.append(
            outcome(
                enough(min(rate, most / seconds), burst),
                rate=rate,
                burst=burst,
                most=most,
                seconds=seconds,
                failing=failing,
                retry_after=retry_after,
                seed=seed,
            )
        )
    ratios, refusals = sorted(one.ratio for one in found), sorted(one.refusals for one in found)
    within = sum(ratio <= 1.3 for ratio in ratios) / count
    sys.stdout.write(
        f"{count} limiters: {statistics.median(ratios):.2f} times the ideal time (median), "
        f"within 1.3 for {within:.1%}, {ratios[-1]:.2f} at worst\n"
        f"refusals per answer: {statistics.median(refusals):.2f} (median), {refusals[-1]:.2f} at worst\n"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
