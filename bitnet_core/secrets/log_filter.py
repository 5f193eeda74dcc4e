"""A process between a stage's output and `output.log` that masks every key.

Everything written to the descriptors passes through it: by Python, by C libraries, by faulthandler, by an abort. It
is forked before anything else runs, outlives a stage that dies, and ends when the last writer has closed the pipe.
"""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Callable

from bitnet_core.process import gives
from bitnet_core.secrets.redaction import Redactor

_IDLE_SECONDS = 0.5
"""How long an unfinished line waits for the rest. Then it is written, except for what may be half a key."""
_END_SECONDS = 2.0
"""How long the stage waits at its end until everything is written."""
_CHUNK = 1 << 16
_LONGEST_LINE = 1 << 20
_CUT_OFF_CHARACTER = re.compile("[\udcc2-\udcf4][\udc80-\udcbf]{0,2}\\Z")
"""The first bytes of a UTF-8 character whose last bytes are missing, as surrogateescape decodes them."""


def start(redact: Redactor) -> Callable[[], None]:
    """Send this process's stdout and stderr through the filter. Call the result to wait for its end."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(write_end)
        # A signal that stops the stage must not stop the log of how it stops.
        for stop in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(stop, signal.SIG_IGN)
        try:
            _copy(read_end, 1, redact)
        finally:
            os._exit(0)
    os.close(read_end)
    for number in (1, 2):
        os.dup2(write_end, number)
    os.close(write_end)
    return lambda: _finish(pid)


def _copy(source: int, sink: int, redact: Redactor) -> None:
    held, unfinished = b"", False
    while True:
        ready = gives(source, _IDLE_SECONDS if unfinished else None)
        data = os.read(source, _CHUNK) if ready else b""
        held += data
        # Whole lines, so that a key written in several parts is whole; after a pause, everything.
        whole = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1 if data and len(held) < _LONGEST_LINE else len(held)
        text, rest = held[:whole].decode(errors="surrogateescape"), held[whole:]
        ended = ready and not data
        ready_to_write = len(text) if ended else _ready_to_write(text, redact)
        _write(sink, redact(text[:ready_to_write]).encode(errors="surrogateescape"))
        if ended:
            return
        held = text[ready_to_write:].encode(errors="surrogateescape") + rest
        unfinished = bool(rest)


def _ready_to_write(text: str, redact: Redactor) -> int:
    """How many characters may be written: what may be the beginning of a key has to wait for its end."""
    whole = len(_CUT_OFF_CHARACTER.sub("", text))
    return whole - redact.cut_off_at_end(text[:whole])


def _write(sink: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # a full disk must not stop the stage
        while data:
            data = data[os.write(sink, data) :]


def _finish(pid: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    nothing = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nothing, number)
    os.close(nothing)
    # A program that the stage started may still have the pipe open.
    deadline = time.monotonic() + _END_SECONDS
    while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
        time.sleep(0.005)
