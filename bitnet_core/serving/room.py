"""Room for a number of bytes at once. Who finds too little waits for the others, in the order in which they came."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Room:
    """`size` bytes; more than that get all of it."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._entrance = asyncio.Lock()
        self._given_back = asyncio.Event()

    @contextlib.asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Wait until there is room for so many bytes, and take it for as long as the context lasts."""
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
