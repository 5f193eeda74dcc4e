"""Says on stderr what a command does, once it has written nothing for some seconds."""

import contextlib
import sys
import threading
from collections.abc import Iterator

_SECONDS = 5.0
_say: "_Speaker | None" = None


@contextlib.contextmanager
def broken(label: str) -> Iterator[None]:
    """Around a command: call what it does `label`, until `doing` says it more exactly."""
    global _say
    _say = _Speaker()
    try:
        _say.begin(label)
        yield
    finally:
        _say.end()
        _say = None


def doing(label: str) -> None:
    """What the command does from now on. Nothing is said of it where a program reads what is written."""
    if _say is not None:
        _say.begin(label)


class _Speaker:
    def __init__(self) -> None:
        self._timer: threading.Timer | None = None
        self._label = ""

    def begin(self, label: str) -> None:
        if label == self._label:
            return
        self.end()
        self._label = label
        self._timer = threading.Timer(_SECONDS, self._speak, (label, _written()))
        self._timer.daemon = True
        self._timer.start()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _speak(self, label: str, written: int) -> None:
        if _written() == written:
            sys.stderr.write(f"bitnet: {label}…\n")
            sys.stderr.flush()


def _written() -> int:
    """How often something was written."""
    return sum(getattr(stream, "writes", 0) for stream in (sys.stdout, sys.stderr))
