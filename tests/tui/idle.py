"""When the app is idle, by what its event loop still has to do; Textual's pilot looks at the processor's time."""

import asyncio
from contextvars import ContextVar
from typing import Any, cast

from textual._context import active_app
from textual._wait import wait_for_idle

_SOON_SECONDS = 1 / 50
"""A timer that fires within this time belongs to what was just done: a frame, a delayed callback."""


async def until_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Wait until nothing is ready to run and no timer fires soon; at most `max_sleep` seconds.

    While a worker is at work the rule of Textual decides: what its thread will bring is not in the loop yet.
    """
    loop = cast(Any, asyncio.get_running_loop())
    end = loop.time() + max_sleep
    while loop.time() < end:
        await asyncio.sleep(0)
        if loop._ready:
            continue
        if _works():
            return await wait_for_idle(min_sleep, end - loop.time())
        due = [timer._when for timer in loop._scheduled if not timer._cancelled]
        if not due or min(due) > loop.time() + _SOON_SECONDS:
            return None
        await asyncio.sleep(max(0.0, min(due) - loop.time()))
    return None


def _works() -> bool:
    app = cast("ContextVar[Any]", active_app).get(None)
    return app is not None and any(worker.is_running for worker in app.workers)
