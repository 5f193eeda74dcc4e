"""Run blocking work that may take minutes from asyncio, without delaying the end of the program."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

_CLEANUP_SECONDS = 2.0

_T = TypeVar("_T")


async def run_in_daemon_thread(work: Callable[[], _T]) -> _T:
    """Like `asyncio.to_thread`, but a cancelled caller does not wait until `work` is done.

    Work that calls `check_stop` gets a moment to clean up; other work ends with the process.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(settle, result, failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return await outcome
    except asyncio.CancelledError:
        thread.join(_CLEANUP_SECONDS)
        raise
