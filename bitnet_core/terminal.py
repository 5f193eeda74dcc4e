"""Where text leaves for stdout and stderr: no text can control the terminal, and no encoding or closed end fails.

A command runs inside `safe_streams()`. It replaces `sys.stdout` and `sys.stderr`, so every way of writing to them is
covered: print, argparse, tracebacks, warnings of libraries. It imports little, for `bitnet --help`.
"""

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TextIO, cast

from bitnet_core.errors import BitnetError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_REDRAW = "\r\x1b[K"
_ASCII = "".join(map(chr, range(128)))
_PLAIN_SIGNS = "bitnet-plain-signs"
SIGNS = {
    **dict.fromkeys("─╌┄—–‐‑−▁", "-"),
    "━": "=",
    **dict.fromkeys("│┃▌", "|"),
    "┊": ":",
    "║": "#",
    **dict.fromkeys("‘’‚", "'"),
    **dict.fromkeys("“”„", '"'),
    **dict.fromkeys("▸›▶", ">"),
    **dict.fromkeys("■█", "#"),
    "◆": "*",
    "☐": "o",
    "☑": "x",
    "␣": "_",
    "↵": "$",
    "⇥": ">",
    "∎": "#",
    "→": "->",
    "←": "<-",
    "↑": "^",
    "↕": "|",
    **dict.fromkeys("↓▾▼", "v"),
    "≠": "#",
    "↻": "~",
    "≈": "~",
    "≤": "<=",
    "≥": ">=",
    "×": "x",
    "✗": "x",
    "✓": "+",
    "◦": "o",
    "○": "o",
    "●": "*",
    "◉": "@",
    "‹": "<",
    "±": "+-",
    **dict(zip("βετ₁₂", "bet12", strict=True)),
    "·": ".",
    "•": "*",
    "…": "...",
}
"""What is written for a sign that the output's encoding lacks; for any other it is `?`."""


class Waiting(io.FileIO):
    """A descriptor that waits for its reader or writer, also if a program that shares it has made it non-blocking.

    Python's own text streams drop what a non-blocking pipe or terminal has no room for, without an error.
    """

    def write(self, data: "ReadableBuffer") -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            sent: int | None = super().write(left)
            if sent is None:
                select.select([], [self], [])
            else:
                left = left[sent:]
        return size

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while (got := cast("int | None", super().readinto(buffer))) is None:
            select.select([self], [], [])
        return got

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(1 << 16), b""))

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            return self.readall()
        buffer = bytearray(size)
        return bytes(buffer[: self.readinto(buffer)])


def waiting(stream: TextIO) -> TextIO:
    """The same stream on the same descriptor, `Waiting`; or the stream itself if it is none of the three."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        number = stream.fileno()
        stream.flush()
    except (OSError, ValueError):  # it has none, or can't be written, which the next write will show
        return stream
    if number > 2 or not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
        return stream
    raw = Waiting(number, stream.buffer.mode, closefd=False)
    whole: Any = io.BufferedReader(raw) if raw.readable() else raw if stream.write_through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        whole,
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class OutputClosed(BitnetError):
    """Stdout can't be written any more: closed, its reader gone, or its disk full."""


class SafeStream:
    """A text stream whose `write` sends text in a form that is safe to show; all else is the stream's own.

    With `must_arrive`, a write that fails raises OutputClosed, once; otherwise, and after that, text is dropped.
    """

    def __init__(self, stream: TextIO, *, must_arrive: bool = True) -> None:
        self._stream = stream
        self._must_arrive = must_arrive
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self.holds_all = self._encoding.lower().startswith("utf")
        """Whether its encoding has every character."""
        self.writes = 0
        """How often something was written."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def as_written(self, text: str) -> str:
        """The text as it will be written, to measure it first. Tabs stay: an answer may be a Makefile."""
        if not text.replace("\n", "").isprintable():
            from bitnet_core.text import printable

            text = "\t".join(map(printable, text.split("\t")))
        if self.holds_all:
            return text
        return text.encode(self._encoding, _PLAIN_SIGNS).decode(self._encoding)

    def write(self, text: str) -> int:
        self._send(self.as_written(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def redraw(self, text: str) -> None:
        """Write over the current line of a terminal, and send it at once."""
        self._send(_REDRAW + self.as_written(text))
        self.flush()

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _send(self, text: str) -> None:
        self.writes += 1
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Send the rest nowhere: what is buffered would fail again when Python exits."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):  # a stream without a descriptor, or none left: nothing more can be done
            pass
        if self._must_arrive:
            self._must_arrive = False
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise OutputClosed(f"stdout can't be written ({reason}); the rest of the output is lost.") from None


def safe(stream: TextIO) -> SafeStream:
    """The stream as a SafeStream, which it may be already."""
    return stream if isinstance(stream, SafeStream) else SafeStream(stream)


class safe_streams:
    """`with safe_streams():` what writes to `sys.stdout` and `sys.stderr` writes safe text. Closed ones are reopened:
    stdout on something that can't be written, stderr and stdin on nothing.
    """

    def __enter__(self) -> None:
        _reopen_closed()
        for stream in (sys.stdout, sys.stderr):
            fits = _writes_ascii if stream is sys.stderr else _writes_text
            if isinstance(stream, io.TextIOWrapper) and not fits(stream.encoding):
                stream.reconfigure(encoding="utf-8", errors=stream.errors)
        if isinstance(sys.stdin, io.TextIOWrapper):
            # In one encoding a bad byte would be an error, in another a lone surrogate: `cli/piped.py` knows these.
            sys.stdin.reconfigure(errors="surrogateescape")
        self._before = sys.stdin, sys.stdout, sys.stderr
        sys.stdin, sys.stdout, sys.stderr = map(waiting, self._before)
        sys.stdout = cast("TextIO", safe(sys.stdout))
        sys.stderr = cast("TextIO", SafeStream(sys.stderr, must_arrive=False))

    def __exit__(self, *_: object) -> None:
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = self._before


def _writes_text(encoding: str) -> bool:
    """Whether any text can be written: PYTHONIOENCODING may also name codecs of other things, such as `idna`."""
    try:
        "a…\n".encode(encoding, _PLAIN_SIGNS)
    except UnicodeError:
        return False
    return True


def _writes_ascii(encoding: str) -> bool:
    """Whether a terminal can read it: sentences for people, and the app, are written to stderr."""
    try:
        return _ASCII.encode(encoding) == _ASCII.encode()
    except UnicodeError:
        return False


def _reopen_closed() -> None:
    """A file that a command opens would otherwise take the place of a closed stream, and get its text."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest free number, this one. Writing to a closed stdout is to fail.
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - stays open as long as the process
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _with_plain_signs(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(SIGNS.get(char, "?") for char in missing), error.end


codecs.register_error(_PLAIN_SIGNS, _with_plain_signs)
