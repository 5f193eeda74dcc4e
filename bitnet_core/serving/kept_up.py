"""A llama.cpp server that is started again when it ends: some requests end it."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from urllib.parse import urlsplit

from bitnet_core.teachers.embedded.server import LlamaServer

RESTARTS = 5
"""In a minute; one more waits until the minute is over."""
_MINUTE_SECONDS = 60.0
_LOOK_SECONDS, _SETTLE_SECONDS = 0.1, 2.0


class KeptUp:
    """`tell` is called with a sentence at each restart."""

    def __init__(self, server: LlamaServer, tell: Callable[[str], None]) -> None:
        self._server = server
        self._tell = tell
        self._up = asyncio.Event()
        self._up.set()
        self._begun: deque[float] = deque(maxlen=RESTARTS)

    async def keep(self) -> None:
        """Until it is cancelled. BitnetError if llama.cpp can't be started again."""
        while True:
            while self._server.alive():  # noqa: ASYNC110 - the end of a process is no event of the loop
                await asyncio.sleep(_LOOK_SECONDS)
            self._up.clear()
            code = self._server.wait()
            again, pause = "it is started again", self._pause()
            if pause:
                again += f" in {pause:.0f} s, as that has happened {RESTARTS} times in a minute"
            self._tell(f"llama.cpp exited ({code}: memory ran out, or a request made it fail); {again}.")
            await asyncio.sleep(pause)
            self._begun.append(time.monotonic())
            self._server.close()
            await asyncio.to_thread(self._server.start)
            self._up.set()

    def _pause(self) -> float:
        if len(self._begun) < RESTARTS:
            return 0.0
        return max(0.0, self._begun[0] + _MINUTE_SECONDS - time.monotonic())

    async def address(self) -> tuple[str, int]:
        """Its host and port, once it is up."""
        while not (self._up.is_set() and self._server.alive()):
            self._up.clear()  # it may have just ended, which `keep` has not noticed yet
            await self._up.wait()
        parts = urlsplit(self._server.base_url)
        return str(parts.hostname), int(parts.port or 0)

    async def settle(self) -> None:
        """Wait a moment for its end: a process closes its connections before it is gone."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_SECONDS):
                while self._server.alive():  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_SECONDS / 10)
