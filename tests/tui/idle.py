"""When the app is idle, by what its event loop still has to do; Textual's pilot looks at the processor's time."""

import asyncio
import math
from typing import Any, cast
from weakref import WeakKeyDictionary

from textual._context import active_app
from textual.app import ScreenStackError
from textual.message_pump import MessagePump
from textual.pilot import Pilot, WaitForScreenTimeout
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


async def until_processed(pilot: Pilot[Any], timeout: float = 30.0) -> None:  # noqa: ASYNC109 - Textual's own argument
    """Wait until the app and the widgets of its screen have processed what was sent to them, or the app has failed.

    To see that, Textual's pilot sends a message to each: a third of all messages of a test. Here only those that are
    at work get one.
    """
    try:
        screen = pilot.app.screen
    except ScreenStackError:
        return
    asked = [pilot.app, screen, *(one for one in screen.walk_children() if not _at_rest(one))]
    left = len(asked)
    answered = asyncio.Event()

    def answer() -> None:
        nonlocal left
        left -= 1
        if not left:
            answered.set()

    left -= sum(not one.call_later(answer) for one in asked)
    if left:
        ends = [asyncio.create_task(one.wait()) for one in (answered, pilot.app._exception_event)]
        ended, others = await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for other in others:
            other.cancel()
        if not ended:
            raise WaitForScreenTimeout("Some widgets are at work still.")


def _at_rest(pump: MessagePump) -> bool:
    """Whether it has no message and waits for one."""
    queue = cast(Any, pump)._message_queue
    return queue.empty() and bool(queue.ready_event._waiters)


def _working() -> list[Worker[Any]]:
    app = cast(Any, active_app).get(None)
    if app is None:
        return []
    return [one for one in app.workers if one.is_running and _waited.get(one, 0.0) < _PATIENCE_SECONDS]
