"""A process between a stage's output and `output.log`, which masks every key on the way.

Whatever writes to the descriptors passes through it: Python, C libraries, faulthandler, the last words of an abort.
It is a fork made before anything else runs, outlives a stage that dies, and ends when nobody can write any more.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable

_IDLE_SECONDS = 0.5
"""After so long a line without an end is written as far as it has come."""
_END_SECONDS = 2.0
_CHUNK = 1 << 16


def start(redact: Callable[[str], str]) -> Callable[[], None]:
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


def _copy(source: int, sink: int, redact: Callable[[str], str]) -> None:
    held = b""
    while True:
        ready = select.select([source], [], [], _IDLE_SECONDS if held else None)[0]
        data = os.read(source, _CHUNK) if ready else b""
        held += data
        # Whole lines, so that a key written in pieces is whole; at the end and after a pause, all there is.
        whole = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1 if data else len(held)
        text, held = held[:whole].decode(errors="surrogateescape"), held[whole:]
        out = redact(text).encode(errors="surrogateescape")
        with contextlib.suppress(OSError):  # a full disk takes nothing more; the stage goes on
            while out:
                out = out[os.write(sink, out) :]
        if ready and not data:
            return


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
