"""How many requests may be under way and how fast they may follow each other, learnt from the answers.

Servers limit either or both, and a refusal does not say which. What tells the two apart:

- A limit on requests at once is one number: it refuses with that many others under way, and never takes a request
  with as many. So a number that was refused is suspected until a request with as many others is taken; it is
  believed when enough speaks for it (`_SURE`), each refusal weighing the more the more was taken since the last.
  Then it is the limit, and one more is tried now and then, the more rarely the more often it was refused.
- Anything else is the rate, and every refusal lowers it. At a refusal the server's bucket is empty, so between two
  refusals it took what its rate allows: that count over that time bounds the new rate from below (a bucket that
  overflowed in a pause gave more than was used), the rate tried from above; the middle of both is gone on with. The
  rate refused becomes a ceiling that the rate nears from below, and that itself rises slowly, and the faster the
  longer nothing is refused, for limits change. Without a ceiling yet, the rate grows by a quarter with each request.

That nothing was refused is known as soon as a refusal would have been: growth counts requests sent, not answers,
which may take long. The rate never exceeds twice what is really sent. A wait that the server asks for holds for all,
and no limit is tried again before the time has passed that makes such a wait cheap (`_REST`).

`tests/providers/test_pace.py` states what this costs behind which limiters. Knows no HTTP; the clock is a parameter,
so that a test may have its own.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

FIRST_AT_ONCE = 8
_SURE = 4.0
"""Weight of the refusals after which a number of requests at once is believed to be the limit."""
_SUSPECTED = 2.0
"""From this weight on a refusal says too little of the rate to be its ceiling."""
_QUARTER = 0.25
_STEP = 3.0
"""Growth of the rate with each request while there is no ceiling: a quarter, or so many a second if that is less."""
_TOWARDS = 0.05
"""How much of the way to just below the ceiling the rate goes with each request."""
_BELOW = 0.97
_PROBING = 5e-4
"""Growth of the ceiling with each request; it speeds up the longer nothing is refused."""
_CALM = 50.0
_LEAST_CUT = 0.9
_SLOWEST = 1 / 60
"""Requests a second: who is refused more slowly than that asks for a wait of its own."""
_REST = 20.0
"""After a refusal nothing is tried for so many times the wait that it cost."""
_SENT_WEIGHT = 0.2
_FIRST_SECONDS = 1.0
_LEAST_REST = 0.1
_TICK = 1e-3
_NONE = float("inf")


@dataclass(eq=False)
class Turn:
    """Leave to send. `others` of the requests under way when it began were not refused, as far as is known."""

    number: int
    began: float
    since_last: float
    others: int
    answered: bool = False


class Pace:
    """Shared by all requests to one model with one key."""

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = max(1, most)
        self._clock = clock
        self.at_once = float(min(self._most, FIRST_AT_ONCE))
        """Requests that may be under way now; the whole part counts."""
        self.rate: float | None = None
        """Requests a second; None while no server has objected."""
        self.refusals = 0
        self._under_way: list[Turn] = []
        self._sent = 0
        self._first = 0.0
        self._last = 0.0
        self._gap = 0.0
        """Seconds between two requests, on a running average."""
        self._next_start = 0.0
        self._paused_until = 0.0
        self._cut_at = -_NONE
        self._cut_number = 0
        self._empty_at = 0.0
        """When the request that was refused last began: the server's bucket was empty then."""
        self._calm_at = 0.0
        self._ceiling = _NONE
        self._full = _NONE
        """Others under way at a refusal that may have been for their number; infinite where none is suspected."""
        self._weight = 0.0
        self._crowded = 0
        """How often their number was found to be the limit; 0 while it is only suspected."""
        self._fitted = -1
        """The most others under way with which a request was answered."""
        self._door = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait for leave to send. First come, first served."""
        async with self._door:
            while len(self._under_way) >= int(self.at_once):
                self._freed.clear()
                await self._freed.wait()
            asked = self._clock()
            # Others may lengthen the pause meanwhile; nothing shortens it, so there is no event to wait for.
            while (wait := max(self._paused_until, self._next_start) - self._clock()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            turn = self._begun(held_by_rate=self._next_start >= max(self._paused_until, asked))
        try:
            yield turn
        finally:
            self._under_way.remove(turn)
            self._freed.set()
            if not turn.answered:  # refused or broken: the server did not have it beside those that came later
                for later in self._under_way:
                    later.others -= later.number > turn.number

    def answered(self, turn: Turn) -> None:
        """The server took the request."""
        turn.answered = True
        self._fitted = max(self._fitted, turn.others)
        if turn.others >= self._full:
            self._trust_their_number()
        if len(self._under_way) < int(self.at_once) - 1:
            return
        if not self._crowded:
            self.at_once += 1
        elif self._crowded == 1 or self._clock() >= self._calm_at:
            self.at_once += 1 / (self.at_once * self._crowded)
        self.at_once = min(float(self._most), self.at_once)

    def refused(self, turn: Turn, wait: float | None) -> None:
        """The server says that this is too much; `wait` is what it asks for."""
        now = self._clock()
        wait = max(wait or 0.0, _LEAST_REST)
        self.refusals += 1
        self.pause(wait)
        empty_at, self._empty_at = self._empty_at, max(self._empty_at, turn.began)
        if turn.began <= self._cut_at:  # sent before the last cut: it says nothing new
            return
        self._calm_at = now + _REST * wait
        taken = turn.number - self._cut_number
        self._cut_at, self._cut_number = now, self._sent
        crowding = self._may_be_their_number(turn, now, taken)
        if crowding and self._weight >= _SURE:
            self._crowded += 1
            self.at_once = float(self._full)
        if crowding and self._crowded == 1:
            self._ceiling = _NONE  # the rate was lowered for nothing
        elif self.rate is None:
            self.rate = (taken + 1) / max(_FIRST_SECONDS, now - self._first)
        else:
            tried = min(self.rate, 1 / max(turn.since_last, _TICK))
            served = (taken + 1) / max(turn.began - empty_at, _TICK)
            self._ceiling = _NONE if crowding and self._weight >= _SUSPECTED else tried
            self.rate = math.sqrt(tried * min(tried, served)) * min(_LEAST_CUT, (taken + 1) / (taken + 2))
        if self.rate is not None:
            self.rate = max(_SLOWEST, self.rate)
            self._next_start = max(self._next_start, now + 1 / self.rate)

    def pause(self, seconds: float) -> None:
        """Nobody sends for so long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    @property
    def paused_seconds(self) -> float:
        return max(0.0, self._paused_until - self._clock())

    def _begun(self, *, held_by_rate: bool) -> Turn:
        now = self._clock()
        if not self._sent:
            self._first = self._last = now
        turn = Turn(self._sent, now, now - self._last, len(self._under_way))
        self._gap += _SENT_WEIGHT * (turn.since_last - self._gap)
        self._last = now
        self._sent += 1
        self._under_way.append(turn)
        if self.rate is not None:
            if held_by_rate and self.rate * self._gap <= 2:
                self.rate = self._grown(self.rate, now)
            self._next_start = now + 1 / self.rate
        return turn

    def _grown(self, rate: float, now: float) -> float:
        if self._ceiling == _NONE:
            return rate + min(_QUARTER * rate, _STEP)
        if now >= self._calm_at:
            self._ceiling *= 1 + _PROBING * (1 + (self._sent - self._cut_number) / _CALM) ** 2
        return rate + _TOWARDS * max(0.0, _BELOW * self._ceiling - rate)

    def _may_be_their_number(self, turn: Turn, now: float, taken: int) -> bool:
        """Whether this refusal may be for how many there are at once; weighs what speaks for it."""
        if self._crowded and turn.others < self._full:
            return False
        # What was sent well before this one and is not refused yet was taken.
        waiting = (one.others for one in self._under_way if now - one.began > 2 * (now - turn.began))
        if max(waiting, default=-1) >= min(self._full, turn.others) or self._fitted >= min(self._full, turn.others):
            self._trust_their_number()
        if not turn.others:
            return False
        self._full = min(self._full, turn.others)
        self._weight += max(1.0, math.log2(taken + 1)) if self._weight else 1.0
        return True

    def _trust_their_number(self) -> None:
        self._full = _NONE
        self._weight = 0.0
        self._crowded = 0
        self._fitted = -1
