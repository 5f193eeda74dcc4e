"""When the app is idle, by what its event loop still has to do; Textual's pilot looks at the processor's time."""

import asyncio
import math
from typing import Any, cast
from weakref import WeakKeyDictionary

from textual._context import active_app
from textual.worker import Worker

_SOON_SECONDS = 1 / 50
"""A timer that fires within this time belongs to what was just done: a frame, a delayed callback."""
_LOOK_SECONDS, _PATIENCE_SECONDS = 1 / 200, 0.5
"""How often to look for a worker's end, and how long to wait for it."""
_waited: WeakKeyDictionary[Worker[Any], float] = WeakKeyDictionary()
"""The seconds that each was waited for. One that a test holds up is soon waited for no more."""


async def until_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Wait until nothing is ready to run, no timer fires soon and no worker works.

    At most `max_sleep` seconds are slept. What a handler takes, such as one that imports, does not count.
    """
    loop = cast(Any, asyncio.get_running_loop())
    slept = 0.0
    while slept < max_sleep:
        await asyncio.sleep(0)
        if loop._ready:
            continue
        if working := _working():
            pause = _LOOK_SECONDS
            for one in working:
                _waited[one] = _waited.get(one, 0.0) + pause
        else:
            due = [timer._when for timer in loop._scheduled if not timer._cancelled]
            pause = max(0.0, min(due, default=math.inf) - loop.time())
            if pause > _SOON_SECONDS:
                return
        await asyncio.sleep(pause)
        slept += pause


def _working() -> list[Worker[Any]]:
    app = cast(Any, active_app).get(None)
    if app is None:
        return []
    return [one for one in app.workers if one.is_running and _waited.get(one, 0.0) < _PATIENCE_SECONDS]
