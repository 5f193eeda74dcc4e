"""How many requests may be under way and how fast they may follow each other, learnt from the answers.

Two limits, as servers have two: requests at once, and requests a second. Both rise slowly with answers and fall
when the server refuses (additive increase, multiplicative decrease); a wait that the server asks for holds for
all. Knows no HTTP; the clock is a parameter, so that a test may have its own.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

FIRST_AT_ONCE = 8
_FEWER = 0.9
_SEARCHING = 1.5
"""Growth of the rate with each answer before a second refusal has bounded it."""
_TOWARDS = 0.03
"""How much of the way to the lowest rate refused the rate goes with each answer."""
_BELOW = 0.97
_PROBING = 5e-4
"""Growth of that bound with each answer; it speeds up the longer nothing is refused, for limits change."""
_CALM = 50.0
_PROVEN = 4
"""So many answers in a row make a rate a proven one."""
_FIRST_SECONDS = 1.0


@dataclass(frozen=True)
class Turn:
    """Leave to send: when it was given, and whether it had to wait for the rate (not for a place)."""

    began: float
    paced: bool


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
        self._answers = 0
        self._active = 0
        self._next_start = 0.0
        self._paused_until = 0.0
        self._cut_at = float("-inf")
        self._since_cut = 0
        self._crowded = False
        """The server has minded how many there were at once: their number rises slowly from then on."""
        self._proven = 0.0
        """Highest rate that was answered several times in a row."""
        self._refused_at = float("inf")
        """Lowest rate refused; drifts up while nothing is."""
        self._first_start: float | None = None
        self._door = asyncio.Lock()
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait for leave to send. First come, first served."""
        async with self._door:
            while self._active >= int(self.at_once):
                self._freed.clear()
                await self._freed.wait()
            asked = self._clock()
            # Others may lengthen the pause meanwhile; nothing shortens it, so there is no event to wait for.
            while (wait := max(self._paused_until, self._next_start) - self._clock()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            paced = self._next_start >= max(self._paused_until, asked)
            self._active += 1
            began = self._clock()
            if self.rate is not None:
                self._next_start = began + 1 / self.rate
            self._first_start = began if self._first_start is None else self._first_start
        try:
            yield Turn(began, paced)
        finally:
            self._active -= 1
            self._freed.set()

    def answered(self, turn: Turn) -> None:
        """The server took the request."""
        if self._active >= int(self.at_once) - 1:
            self.at_once = min(float(self._most), self.at_once + (1 / self.at_once if self._crowded else 1))
        self._answers += 1
        if self.rate is None or turn.began <= self._cut_at:  # sent before the last cut: it says nothing of this rate
            return
        self._since_cut += 1
        searching = self._refused_at == float("inf")
        if self._since_cut >= _PROVEN:
            self._proven = max(self._proven, self.rate / _SEARCHING**2 if searching else self.rate)
        if searching:
            self.rate *= _SEARCHING
        else:
            self._refused_at *= 1 + _PROBING * (1 + self._since_cut / _CALM) ** 2
            self.rate += _TOWARDS * (self._refused_at - self.rate)

    def refused(self, turn: Turn, wait: float | None) -> None:
        """The server says that this is too much; `wait` is what it asks for."""
        now = self._clock()
        self.refusals += 1
        if wait is not None:
            self.pause(wait)
        if turn.began <= self._cut_at:  # sent before the last cut: it says nothing new
            return
        if self.rate is None:
            first = now if self._first_start is None else self._first_start
            self.rate = max(1, self._answers) / max(_FIRST_SECONDS, now - first)
        elif not turn.paced or (self._since_cut < _PROVEN and self._refused_at == float("inf")):
            # It waited for a place, not for the rate, or the rate can't be lower: their number is what is minded.
            self._crowded = True
            self.at_once = max(1.0, min(self.at_once, self._active - 1) * _FEWER)
        elif self.rate > self._proven:
            self._refused_at = self.rate
            self.rate = max(self._proven, self.rate / _SEARCHING) * _BELOW
        else:
            # A rate that was fine is not: the limit has changed.
            self._refused_at = self.rate
            self.rate *= _FEWER
            self._proven = self.rate * _FEWER
        self._cut_at = now
        self._since_cut = 0
        self._next_start = max(self._next_start, now + 1 / self.rate)

    def pause(self, seconds: float) -> None:
        """Nobody sends for so long."""
        self._paused_until = max(self._paused_until, self._clock() + seconds)

    @property
    def paused_seconds(self) -> float:
        return max(0.0, self._paused_until - self._clock())
