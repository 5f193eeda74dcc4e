"""Limits the bytes of replies that are held at the same time, over all requests. Knows no HTTP client.

A reply takes bytes as it grows. It gives them back at its end, or when it has been read and stored.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

MOST_BYTES = 1 << 24
"""Of the replies that are being received or stored; 1,000 tokens with 20 candidates each are some 2 MB."""


class InFlight:
    """The bytes that are left for the replies of one client."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.left = most_bytes
        self.beyond = asyncio.Lock()
        """Held by the one reply that may pass the limit."""

    @contextlib.asynccontextmanager
    async def share(self) -> AsyncIterator["Share"]:
        """The bytes of one reply; they are given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            share.give_back()


class Share:
    """The bytes of one reply."""

    def __init__(self, whole: InFlight) -> None:
        self._whole = whole
        self._taken = 0
        self._is_beyond = False

    async def take(self, count: int) -> None:
        """Take `count` bytes more. Waits while they would pass the limit and another reply is beyond it."""
        if not self._is_beyond and count > self._whole.left:
            await self._whole.beyond.acquire()
            self._is_beyond = True
        if not self._is_beyond:
            self._whole.left -= count
            self._taken += count

    def keep(self, until: contextlib.ExitStack) -> None:
        """Give the bytes back when `until` is closed, not at the reply's end: somebody still has its body."""
        kept = Share(self._whole)
        kept._taken, kept._is_beyond = self._taken, self._is_beyond
        self._taken, self._is_beyond = 0, False
        until.callback(kept.give_back)

    def give_back(self) -> None:
        self._whole.left += self._taken
        self._taken = 0
        if self._is_beyond:
            self._whole.beyond.release()
            self._is_beyond = False
