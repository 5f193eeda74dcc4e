"""A process between a stage's output and `output.log`, which masks every key on the way.

Whatever writes to the descriptors passes through it: Python, C libraries, faulthandler, the last words of an abort.
It is a fork made before anything else runs, outlives a stage that dies, and ends when nobody can write any more.
"""

import contextlib
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitnet_core.secrets.redaction import Redactor

_IDLE_SECONDS = 0.5
"""After so long a line without an end is written as far as it has come, but for what may be half a key."""
_END_SECONDS = 2.0
_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 20
_LETTER_IN_PART = re.compile("[\udcc2-\udcf4][\udc80-\udcbf]{0,2}\\Z")
"""The first bytes of a letter in UTF-8, as they are decoded where its last ones are missing."""


def start(redact: "Redactor") -> Callable[[], None]:
    """Send this process's stdout and stderr through the filter; the result waits until all of it is written."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        # The stage is asked to stop, not what writes down how it stops.
        for asked in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(asked, signal.SIG_IGN)
        try:
            _copy(read_end, 1, redact)
        finally:
            os._exit(0)
    os.close(read_end)
    for number in (1, 2):
        os.dup2(write_end, number)
    os.close(write_end)
    return lambda: _finish(pid)


def _copy(source: int, sink: int, redact: "Redactor") -> None:
    held, waits = b"", False
    while True:
        ready = select.select([source], [], [], _IDLE_SECONDS if waits else None)[0]
        data = os.read(source, _CHUNK) if ready else b""
        held += data
        # Whole lines, so that a key written in pieces is whole; after a pause, all there is.
        whole = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1 if data and len(held) < _LONGEST_LINE else len(held)
        text, rest = held[:whole].decode(errors="surrogateescape"), held[whole:]
        ended = bool(ready) and not data
        sure = len(text) if ended else _sure(text, redact)
        _write(sink, redact(text[:sure]).encode(errors="surrogateescape"))
        if ended:
            return
        held = text[sure:].encode(errors="surrogateescape") + rest
        waits = bool(rest)


def _sure(text: str, redact: "Redactor") -> int:
    """How much may be written: what may be the beginning of a key waits for the rest of it."""
    whole = len(_LETTER_IN_PART.sub("", text))
    return whole - redact.begun(text[:whole])


def _write(sink: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a full disk takes nothing more; the stage goes on
        while data:
            data = data[os.write(sink, data) :]


def _finish(pid: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
    # A program that the stage has left behind may still hold the pipe.
    deadline = time.monotonic() + _END_SECONDS
    while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
