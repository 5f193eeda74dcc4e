"""How long callbacks of the event loop hold its thread, in processor time, which other load does not lengthen."""

import asyncio
import gc
import sys
import threading
import time
from asyncio import events as loop_events
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class LongestCallback:
    """The longest callback since `take`, with all that it imports and what Python collects in it as garbage."""

    def __init__(self) -> None:
        self.seconds = self.collecting = 0.0
        """`collecting` is the longest collection, in any thread: each of them holds up the loop."""
        self.where = ""
        """Which one it was."""

    def take(self) -> float:
        """In milliseconds."""
        found, self.seconds = self.seconds * 1000, 0.0
        return found

    @contextmanager
    def watching(self) -> Iterator[None]:
        run = loop_events.Handle._run
        began = threading.local()

        def timed(handle: Any) -> None:
            modules, before = len(sys.modules), time.thread_time()
            run(handle)
            spent = time.thread_time() - before
            if spent > self.seconds and not _of_a_test(handle):
                self.seconds = spent
                self.where = f"{_name_of(handle)}, with {len(sys.modules) - modules} new modules"

        def collecting(phase: str, _: dict[str, int]) -> None:
            if phase == "start":
                began.at = time.thread_time()
                return
            spent = time.thread_time() - began.at
            self.collecting = max(self.collecting, spent)
            if spent > self.seconds:
                self.seconds, self.where = spent, "garbage collection"

        gc.callbacks.append(collecting)
        loop_events.Handle._run = timed  # type: ignore[method-assign, assignment]
        try:
            yield
        finally:
            loop_events.Handle._run = run  # type: ignore[method-assign]
            gc.callbacks.remove(collecting)


def _name_of(handle: Any) -> str:
    """A widget has a task of its own."""
    task = getattr(handle._callback, "__self__", None)
    return task.get_name() if isinstance(task, asyncio.Task) else repr(handle)


def _of_a_test(handle: Any) -> bool:
    """Whether it is a step of the test's own coroutine, which is no part of the app."""
    task = getattr(handle._callback, "__self__", None)
    code = getattr(task.get_coro(), "cr_code", None) if isinstance(task, asyncio.Task) else None
    return code is not None and "/tests/" in code.co_filename


def reference_work() -> int:
    """Takes about 32 ms on a core that is free."""
    return sum(one * one for one in range(750_000))


def reference_seconds() -> float:
    """Processor time of that, at least, now."""
    found = []
    for _ in range(3):
        began = time.thread_time()
        reference_work()
        found.append(time.thread_time() - began)
    return min(found)
