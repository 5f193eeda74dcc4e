"""Calls to a target from a few threads, within a budget of memory. The caller's thread handles what they return."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

from bitnet_core.errors import Stopped
from bitnet_core.storage.target import Limits

BUDGET_BYTES = 64 << 20
_POLL_SECONDS = 0.2
_END_SECONDS = 2.0
"""How long what is on its way may take to end after a failure, so that the next try does not meet it."""


class Sender:
    """Runs jobs in threads. `submit` waits while more bytes are in flight than the budget allows.

    The threads are daemons: a stopped process does not wait for a call that hangs.
    """

    def __init__(self, limits: Limits, stop: threading.Event | None = None) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.resources = contextlib.ExitStack()
        """What jobs use; closed when no job runs any more."""
        # What no thread is free to send need not be in memory.
        self._budget = min(BUDGET_BYTES, limits.workers * limits.object_bytes)
        self._bytes = 0
        self._open = 0
        self._stop = stop or threading.Event()
        self._closed = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(limits.workers)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """After a failure, jobs that have not begun are dropped, and the others get a moment to end."""
        self._closed = True
        for _thread in self._threads:
            self._jobs.put(None)
        if kind is not None and (issubclass(kind, Stopped) or not issubclass(kind, Exception)):
            return
        deadline = time.monotonic() + _END_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self.resources.close()

    def submit(self, job: Callable[[], Any], cost: int, then: Callable[[Any], object] = lambda _: None) -> None:
        """Run `job` in a thread while it holds `cost` bytes; `then` gets what it returned, in this thread.

        Raises what an earlier job raised.
        """
        while self._open and self._bytes + cost > self._budget:
            self.handle_one()
        self._bytes += cost
        self._open += 1
        self._jobs.put(lambda: self._run(job, cost, then))

    def drain(self) -> None:
        """Wait for all jobs. Raises what one of them raised."""
        while self._open:
            self.handle_one()

    def handle_one(self) -> None:
        """Wait for one job, and handle what it returned. Raises what it raised."""
        while True:
            if self._stop.is_set():
                raise Stopped("Storing was stopped; what has arrived is kept, and starting it again continues it.")
            try:
                return self._done.get(timeout=_POLL_SECONDS)()
            except queue.Empty:
                continue

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._closed:
                job()
            del job  # what it sent need not stay in memory until the next one comes

    def _run(self, job: Callable[[], Any], cost: int, then: Callable[[Any], object]) -> None:
        try:
            found = job()
        except BaseException as error:  # noqa: BLE001 - it is raised in the caller's thread
            failure = error

            def fail() -> None:
                self._close(cost)
                raise failure

            self._done.put(fail)
        else:

            def succeed() -> None:
                self._close(cost)
                then(found)

            self._done.put(succeed)

    def _close(self, cost: int) -> None:
        self._bytes -= cost
        self._open -= 1
