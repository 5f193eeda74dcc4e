"""A target with patience: what may succeed later is tried again. The only retries of the room."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from bitnet_core.storage.target import Account, AlreadyThere, Found, Target, Unreachable, holds
from bitnet_core.storage.walk import Walk

ATTEMPTS = 6
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_LONGEST_SECONDS = 900.0
"""Seconds after which a call that failed is not tried again: one that drips fails late each time."""

_STALLED_SECONDS, _STALLED_TRIES = 50.0, 2
"""A call that fails only after this time has met a server that is silent or drips; how often it is tried."""

_T = TypeVar("_T")
OnRetry = Callable[[str, float], object]
"""Told the reason and the wait in seconds before a call is tried again."""


class Patient:
    """The calls of `target`, each tried up to `attempts` times.

    The waits grow from half a second, or are as long as the target asks, at most a minute. `stop` ends a wait: the
    failure is raised then. A call that fails after a minute is tried twice, and no call is tried again a quarter of
    an hour after its first try.
    """

    def __init__(
        self,
        target: Target,
        *,
        attempts: int = ATTEMPTS,
        first_wait: float = _FIRST_WAIT,
        on_retry: OnRetry = lambda _reason, _seconds: None,
        stop: threading.Event | None = None,
    ) -> None:
        self._target = target
        self._attempts = attempts
        self._first_wait = first_wait
        self._on_retry = on_retry
        self._stop = stop or threading.Event()
        self.name, self.place, self.limits = target.name, target.place, target.limits

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        unknown = False

        def once() -> None:
            nonlocal unknown
            try:
                self._target.put(key, data, only_if_absent=only_if_absent)
            except Unreachable:
                unknown = True
                raise
            except AlreadyThere:
                # An earlier attempt may have succeeded although its answer was lost.
                if not unknown or not holds(self._target, key, data):
                    raise

        self._patiently(once)

    def get(self, key: str) -> bytes:
        return self._patiently(lambda: self._target.get(key))

    def list(self, prefix: str) -> Iterator[Found]:
        """A listing that is cut starts over, or goes on where it was cut if it can."""

        def begin() -> Iterator[Found]:
            listing = self._target.list(prefix)
            # One that would start over must be complete before the first object is given.
            return listing if isinstance(listing, Walk) else iter(list(listing))

        listing = self._patiently(begin)
        while (found := self._patiently(lambda: next(listing, None))) is not None:
            yield found

    def delete(self, key: str) -> None:
        self._patiently(lambda: self._target.delete(key))

    def check(self) -> Account:
        return self._patiently(self._target.check)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        began, stalled = time.monotonic(), 0
        for attempt in range(1, self._attempts + 1):
            tried = time.monotonic()
            try:
                return call()
            except Unreachable as failure:
                wait = self._wait(attempt, failure.after)
                stalled += time.monotonic() >= tried + _STALLED_SECONDS
                late = stalled == _STALLED_TRIES or time.monotonic() + wait > began + _LONGEST_SECONDS
                if attempt == self._attempts or late or self._stop.is_set():
                    raise
                self._on_retry(str(failure), wait)
                if self._stop.wait(wait):
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _wait(self, attempt: int, asked: float | None) -> float:
        """With jitter, so that several threads don't come back at once."""
        wait: float = self._first_wait * 2 ** (attempt - 1) * random.uniform(1, 1.5)
        return min(max(wait, asked or 0.0), _LONGEST_WAIT)
