"""What `bitnet store` and `bitnet open` show while files move, and how they end on Ctrl-C."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from bitnet_core.cli.command import json_line
from bitnet_core.cli.output import Console
from bitnet_core.errors import Stopped
from bitnet_core.runs.events import Event, Progress, Upload, to_dict
from bitnet_core.storage.target import Unreachable

_KEPT = "hat has arrived is kept, and the same command continues from there."
STOPPED = f"Stopped; w{_KEPT}"
_HANG_SECONDS = 1.5
"""How long what was stopped may take to end by itself."""
_EVENT_SECONDS = 0.5
_REDRAW_SECONDS = 0.2
_RATE_SECONDS = 1.0
"""Before that, a rate and the time that is left would be guesses."""


@contextlib.contextmanager
def stoppable(sentence: str = STOPPED) -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set. They also raise Stopped here, and end a process that hangs."""
    stop = threading.Event()
    watchdog = threading.Timer(_HANG_SECONDS, _give_up, [sentence])
    watchdog.daemon = True

    def on_signal(*_: Any) -> None:
        if not stop.is_set():
            stop.set()
            watchdog.start()
        raise Stopped(sentence)

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    except Stopped:
        raise Stopped(sentence) from None
    finally:
        watchdog.cancel()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _give_up(sentence: str) -> None:
    sys.stderr.write(f"bitnet: {sentence}\n")
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(Stopped.exit_code)


class Transfer:
    """Shows how many bytes of many files have moved: a line redrawn in place, lines, or JSON events."""

    def __init__(self, *, as_json: bool, label: str, target: str, files: int, total: int) -> None:
        self._json = as_json
        self._console = Console(as_json=as_json)
        self._label = label
        self._target = target
        self._files = files
        self._total = total
        self._done: dict[str, int] = {}
        self._bytes = self._whole = 0
        self._goes_on = files > 0
        self._began = time.monotonic()
        self._shown = self._began

    def __enter__(self) -> "Transfer":
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        self._console.close()
        if isinstance(error, Unreachable) and self._goes_on:
            raise Unreachable(f"{error} W{_KEPT}") from error

    def sent(self, name: str, done: int, size: int) -> None:
        """`done` of a file's `size` bytes have arrived at the target."""
        if self._add(name, done, size) or (self._json and self._is_time(_EVENT_SECONDS)):
            state = "done" if done >= size else "sending"
            self._write(Upload(path=name, target=self._target, bytes=size, done=done, state=state))
        self._show()

    def brought(self, name: str, done: int, size: int) -> None:
        """`done` of a file's `size` bytes are here."""
        self._add(name, done, size)
        self._show(as_event=True)

    def looked(self, done: int, total: int) -> None:
        """`done` of `total` bytes have been compared."""
        self._bytes, self._total = done, total
        self._show(as_event=True)

    def _add(self, name: str, done: int, size: int) -> bool:
        """Count a file's bytes. True if it is complete now."""
        self._bytes += done - self._done.get(name, 0)
        self._done[name] = done
        self._whole += done >= size
        return done >= size

    def _show(self, *, as_event: bool = False) -> None:
        if (self._json and not as_event) or not self._is_time(_EVENT_SECONDS if self._json else _REDRAW_SECONDS):
            return
        seconds = time.monotonic() - self._began
        rate = self._bytes / seconds if seconds > _RATE_SECONDS else None
        left = (self._total - self._bytes) / rate if rate else None
        label = f"{self._label} {min(self._whole, self._files)}/{self._files} files" if self._files else self._label
        event = Progress(
            t=time.time(), done=self._bytes, total=max(self._total, self._bytes), unit="bytes", rate=rate,
            eta_s=max(0.0, left) if left is not None else None, label=label,
        )  # fmt: skip
        if self._json:
            self._write(event)
        else:
            self._console.event("", event)

    def _is_time(self, seconds: float) -> bool:
        now = time.monotonic()
        if now - self._shown < seconds:
            return False
        self._shown = now
        return True

    def _write(self, event: Event) -> None:
        if self._json:
            event.t = time.time()
            sys.stdout.write(json_line(to_dict(event)) + "\n")
            sys.stdout.flush()
