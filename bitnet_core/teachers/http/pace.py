"""How many requests may run at once, and how fast they may follow each other, learnt from the server's answers.

Servers limit concurrency, the rate, or both, and a refusal does not say which. What tells the two apart:

- A limit on concurrency is one number: a request with that many others under way is always refused. So the number
  of others at a refusal is suspected to be the limit until a request with as many others is accepted. It is believed
  once there is enough evidence (`_BELIEVED`); a refusal is stronger evidence the more was accepted since the last
  one. From then on it is the limit, and one more is tried now and then, more rarely after each refusal.
- Any other refusal lowers the rate. The server's bucket is empty at a refusal, so what it accepted between two
  refusals, divided by the time between them, is a lower bound for the rate that it allows. The refused rate is an
  upper bound. The new rate is their geometric mean, and the refused rate becomes a ceiling, which the rate approaches
  from below. Limits change, so the ceiling rises, slowly at first and faster the longer nothing is refused. Without
  a ceiling, the rate grows by a quarter with each request.

Growth counts requests sent, not answers: an answer may take long, but a refusal would have come at once. A wait that
the server asks for holds for all requests, and no limit is probed again before that wait has become cheap (`_REST`).

`tests/teachers/test_pace.py` bounds the cost behind many limiters, and fails without any of the constants below.
Knows no HTTP. The clock is a parameter for the tests.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

_FIRST_CONCURRENCY = 8
"""Requests at once until the server has answered: few enough for strict limits, enough not to waste the start."""
_BELIEVED = 4.0
"""Evidence that makes a suspected limit on concurrency believed."""
_DOUBTFUL = 2.0
"""With this much evidence for a limit on concurrency, a refusal does not become a ceiling for the rate."""
_GROWTH = 0.25
_MOST_GROWTH = 3.0
"""Without a ceiling, each request adds this share to the rate, and at most this many requests a second."""
_APPROACH = 0.05
"""With a ceiling, each request closes this share of the distance to `_MARGIN` times the ceiling."""
_MARGIN = 0.97
"""Just below the ceiling, so that the bucket refills and an uneven gap is not refused."""
_CEILING_GROWTH = 5e-4
"""Share by which each request raises the ceiling at first."""
_CEILING_REQUESTS = 50.0
"""The ceiling's growth accelerates with the square of the requests since the last cut, in multiples of this."""
_CUT = 0.9
"""A refusal lowers the rate at least to this share of the mean of its bounds, so that the bucket refills."""
_SLOWEST = 1 / 60
"""Requests a second. A server that allows fewer asks for waits itself."""
_REST = 20.0
"""After a refusal nothing is probed for this many times the wait that it cost."""
_FIRST_SECONDS = 1.0
"""The first requests leave together: they count as if they had been sent over this time."""
_TICK = 1e-3
"""The shortest time that is divided by."""
_NOTABLE = 0.5
"""A shorter wait is not worth telling."""
_NONE = math.inf


@dataclass(eq=False)
class Turn:
    """Permission to send one request.

    `others` counts the other requests under way when it began, less those that have since been refused or failed.
    """

    number: int
    began: float
    since_last: float
    others: int
    answered: bool = False


class Pace:
    """Shared by all requests to one model with one key."""

    def __init__(self, most: int = 64, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` is the largest number of requests at once; `clock` returns seconds."""
        self.most = max(1, most)
        self._clock = clock
        self.at_once = float(min(self.most, _FIRST_CONCURRENCY))
        """Requests that may be under way now; only the whole part counts."""
        self.rate: float | None = None
        """Requests a second; None until the server has refused one."""
        self.refusals = 0
        self._under_way: list[Turn] = []
        self._queue = asyncio.Lock()
        self._ended = asyncio.Event()
        self._sent = 0
        self._first_start = 0.0
        self._last_start = 0.0
        self._next_start = 0.0
        self._paused_until = 0.0
        self._probe_after = 0.0
        # The rate.
        self._cut_at = -_NONE
        self._sent_at_cut = 0
        self._empty_at = 0.0
        """The start of the latest refused request, when the server's bucket was empty."""
        self._ceiling = _NONE
        # The limit on concurrency.
        self._suspect = _NONE
        """Others under way at a refusal that may be due to their number; infinite if none is suspected."""
        self._evidence = 0.0
        self._times_believed = 0
        self._most_accepted = -1
        """The most others under way at the start of an accepted request."""

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait for permission to send; first come, first served."""
        async with self._queue:
            while len(self._under_way) >= int(self.at_once):
                self._ended.clear()
                await self._ended.wait()
            asked = self._clock()
            # Others may prolong the pause meanwhile. Nothing shortens it, so there is no event to wait for.
            while (wait := max(self._paused_until, self._next_start) - self._clock()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            turn = self._begin(held_by_rate=self._next_start >= max(self._paused_until, asked))
        try:
            yield turn
        finally:
            self._under_way.remove(turn)
            self._ended.set()
            if not turn.answered:  # refused or broken, so it was not under way beside those that came later
                for later in self._under_way:
                    later.others -= later.number > turn.number

    def answered(self, turn: Turn) -> None:
        """The server accepted and answered the request."""
        turn.answered = True
        self._most_accepted = max(self._most_accepted, turn.others)
        if turn.others >= self._suspect:
            self._clear_suspicion()
        if len(self._under_way) < int(self.at_once) - 1:
            return
        if not self._times_believed:
            self.at_once += 1
        elif self._times_believed == 1 or self._clock() >= self._probe_after:
            self.at_once += 1 / (self.at_once * self._times_believed)
        self.at_once = min(float(self.most), self.at_once)

    def refused(self, turn: Turn, wait: float | None) -> None:
        """The server refused the request as one too many; `wait` is the number of seconds that it asks for."""
        now = self._clock()
        wait = wait or 0.0
        self.refusals += 1
        self.pause(wait)
        previously_empty_at, self._empty_at = self._empty_at, max(self._empty_at, turn.began)
        if turn.began <= self._cut_at:  # sent before the last cut: nothing new
            return
        accepted = turn.number - self._sent_at_cut
        self._cut_at, self._sent_at_cut = now, self._sent
        self._probe_after = now + _REST * wait
        crowded = self._suspect_concurrency(turn, now, accepted)
        if crowded and self._evidence >= _BELIEVED:
            self._times_believed += 1
            self.at_once = float(self._suspect)
        if crowded and self._times_believed == 1:
            self._ceiling = _NONE  # the rate was lowered without need
        elif self.rate is None:
            self.rate = (accepted + 1) / max(_FIRST_SECONDS, now - self._first_start)
        else:
            tried = min(self.rate, 1 / max(turn.since_last, _TICK))
            served = (accepted + 1) / max(turn.began - previously_empty_at, _TICK)
            self._ceiling = _NONE if crowded and self._evidence >= _DOUBTFUL else tried
            self.rate = math.sqrt(tried * min(tried, served)) * min(_CUT, (accepted + 1) / (accepted + 2))
        if self.rate is not None:
            self.rate = max(_SLOWEST, self.rate)
            self._next_start = max(self._next_start, now + 1 / self.rate)

    def pause(self, seconds: float) -> None:
        """Send nothing for this long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    def wait_s(self) -> float:
        """Seconds in which no request may leave."""
        return max(0.0, max(self._paused_until, self._next_start) - self._clock())

    def holds(self) -> str:
        """What holds back the next request, in words; empty if it may leave, or the last ones have just left."""
        now = self._clock()
        if self._paused_until > now + _NOTABLE:
            return "the server asked to wait"
        if self.rate is not None and self._next_start > now + _NOTABLE:
            return "the rate that the server allows"
        if self._times_believed and len(self._under_way) >= int(self.at_once):
            return f"the server takes {int(self.at_once)} at once"
        return ""

    def _begin(self, *, held_by_rate: bool) -> Turn:
        now = self._clock()
        if not self._sent:
            self._first_start = self._last_start = now
        turn = Turn(self._sent, now, now - self._last_start, len(self._under_way))
        self._last_start = now
        self._sent += 1
        self._under_way.append(turn)
        if self.rate is not None:
            if held_by_rate:  # else the rate is not what limits
                self.rate = self._grown(self.rate, now)
            self._next_start = now + 1 / self.rate
        return turn

    def _grown(self, rate: float, now: float) -> float:
        if self._ceiling == _NONE:
            return rate + min(_GROWTH * rate, _MOST_GROWTH)
        if now >= self._probe_after:
            since_cut = (self._sent - self._sent_at_cut) / _CEILING_REQUESTS
            self._ceiling *= 1 + _CEILING_GROWTH * (1 + since_cut) ** 2
        return rate + _APPROACH * max(0.0, _MARGIN * self._ceiling - rate)

    def _suspect_concurrency(self, turn: Turn, now: float, accepted: int) -> bool:
        """Whether this refusal may have been for the number of requests at once; raises the suspicion if so."""
        if self._times_believed and turn.others < self._suspect:
            return False
        # Requests sent well before this one that are still under way were accepted.
        running = (one.others for one in self._under_way if now - one.began > 2 * (now - turn.began))
        if max(self._most_accepted, *running, -1) >= min(self._suspect, turn.others):
            self._clear_suspicion()
        if not turn.others:
            return False
        self._suspect = min(self._suspect, turn.others)
        self._evidence += max(1.0, math.log2(accepted + 1)) if self._evidence else 1.0
        return True

    def _clear_suspicion(self) -> None:
        self._suspect = _NONE
        self._evidence = 0.0
        self._times_believed = 0
        self._most_accepted = -1
