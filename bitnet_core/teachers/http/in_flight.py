"""Limits the bytes of replies that are held at the same time, over all requests. Knows no HTTP client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

MOST_BYTES = 1 << 25
"""Of the replies that are being received; 1,000 tokens with 20 candidates each are some 2 MB."""


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

    def give_back(self) -> None:
        self._whole.left += self._taken
        self._taken = 0
        if self._is_beyond:
            self._whole.beyond.release()
            self._is_beyond = False
