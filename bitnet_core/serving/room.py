"""A bound on the bytes that are in use at once. Tasks that need more than is left wait, first come, first served."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Room:
    """Room for `size` bytes. A task that needs more than that waits until all of it is free."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._entrance = asyncio.Lock()
        self._given_back = asyncio.Event()

    @contextlib.asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Wait until there is room for `size` bytes, and take it for as long as the context lasts."""
        size = min(size, self._size)
        async with self._entrance:
            while self._left < size:
                self._given_back.clear()
                await self._given_back.wait()
            self._left -= size
        try:
            yield
        finally:
            self._left += size
            self._given_back.set()
