"""The terminal as Textual's driver sees it, for any bytes typed, any encoding of the output, and any signal.

It knows nothing of screens. Textual's driver reads UTF-8 strictly, and ends in a traceback with the values of
variables; it writes what the encoding lacks as escapes of up to ten cells, which push the rest of the line away; a
SIGCONT that follows no SIGTSTP starts its threads twice, and then it never ends; killed by SIGTERM, it leaves the
terminal without echo and reporting the mouse; and it waits for ever for a terminal that is gone or takes no output.
"""

import codecs
import contextlib
import io
import os
import queue
import selectors
import signal
import sys
import threading
import unicodedata
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from rich.cells import cell_len
from textual.drivers.linux_driver import LinuxDriver

from bitnet_core.terminal import SIGNS, Waiting
from bitnet_core.text import flat, printable
from bitnet_tui.flood import Bounded
from bitnet_tui.sequences import AnySequences

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TextIO

    from textual.app import App
    from textual.drivers._writer_thread import WriterThread

_ENDING = (
    *(signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM),
)
_READ_BYTES = 4096
_PAUSE_SECONDS = 0.1
"""Between two looks at whether the rest of what was typed comes. Otherwise nothing wakes the thread but a byte."""
_WAIT_SECONDS = 0.1
_LONGEST_SILENCE_SECONDS = 2.0
"""How long the app waits at its end for a terminal that takes no output."""
_MOST_COLUMNS, _MOST_ROWS = 1000, 400
"""More than a screen shows in letters that can be read. The variables may claim any size."""
_NARROW = {"→": ">", "←": "<", "↘": "v", "↗": "^", "≤": "<", "≥": ">", "±": "~", "…": "~"}
"""A full stop in the place of an ellipsis would read as part of the name that was cut there."""
_WITH_EQUALS = "≤≥"
"""Their second sign takes the place of the space that follows, if one does."""
_PLAIN_CELLS = "bitnet-plain-cells"


def _is_told_to_be_plain(environment: "Mapping[str, str]") -> bool:
    """Whether the locale is C because the user says so, and nothing says that the output is UTF-8 all the same.

    Python writes UTF-8 in that locale (PEP 540), and tmux then shows `_` for each sign and for each cell of a curve.
    A locale that is not installed on a server is C as well; there the terminal at the other end knows UTF-8.
    """
    if not sys.flags.utf8_mode or "utf8" in sys._xoptions:
        return False
    if environment.get("PYTHONUTF8") or environment.get("PYTHONIOENCODING"):
        return False
    return (environment.get("LC_ALL") or environment.get("LANG")) in ("C", "POSIX")


class _Output:
    """The terminal's stream; once it can't be written, `lost` is called and what follows is dropped.

    An error would end Textual's writing thread, and the app would wait for it. A thread that waits in a write holds
    the stream's lock, for which the interpreter waits when it ends; so the stream is one of its own.
    """

    def __init__(self, stream: "TextIO", lost: "Callable[[], None]") -> None:
        own = io.BufferedWriter(Waiting(os.dup(stream.fileno()), "wb"))
        self._stream = io.TextIOWrapper(own, encoding=stream.encoding, errors=stream.errors)
        self.drawn_in = "ascii" if _is_told_to_be_plain(os.environ) else stream.encoding
        """The encoding whose signs are drawn."""
        self._lost = lost
        self.taken = 0
        """How many writes the terminal has taken."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except OSError:
            self._lost()
        self.taken += 1

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._lost()
        self.taken += 1


class EndOfInput(threading.Event):
    """Can be waited for together with what is typed: its file can be read once the event is set."""

    def __init__(self) -> None:
        super().__init__()
        self._read_end, self._write_end = os.pipe()
        for end in (self._read_end, self._write_end):
            os.set_blocking(end, False)

    def fileno(self) -> int:
        return self._read_end

    def set(self) -> None:
        super().set()
        with contextlib.suppress(BlockingIOError):  # full of the same
            os.write(self._write_end, b"\0")

    def clear(self) -> None:
        super().clear()
        with contextlib.suppress(BlockingIOError):
            os.read(self._read_end, _READ_BYTES)


class AnyTerminal(Bounded, LinuxDriver):
    """Typed bytes that are not UTF-8 become `�`; what the output's encoding lacks becomes a sign just as wide.

    Signals that would end the program, and the loss of the terminal, end the app as a key does, so that the terminal
    is left in order.
    """

    def __init__(self, app: "App[Any]", **options: Any) -> None:
        super().__init__(app, **options)
        self.exit_event = self._end_of_input = EndOfInput()
        self._output = _Output(cast("TextIO", self._file), self._leave)
        self._file = cast("Any", self._output)
        if self.plain:
            from textual.scrollbar import ScrollBarRender  # it takes a while, and the first screen has none

            # The end of a bar that fills a part of a cell would be a sign on it.
            ScrollBarRender.VERTICAL_BARS = [" "]
        self._told_to_leave = self._given_up = False
        for number in _ENDING:
            signal.signal(number, self._leave)
        self._has_title = False
        self._size = self._get_terminal_size()  # until the first event tells it

    def _leave(self, number: int = signal.SIGHUP, _frame: FrameType | None = None) -> None:
        """End the app, from any thread; the exit code is that of the signal. The next signal of its kind kills."""
        self._told_to_leave = True
        over = self._loop.is_closed()  # the app has ended, and its program is about to
        if not over:
            self._loop.call_soon_threadsafe(lambda: self._app.exit(return_code=128 + number))
        if _frame is not None:
            signal.signal(number, signal.SIG_DFL)
            if over:
                os.kill(os.getpid(), number)

    @property
    def plain(self) -> bool:
        """Whether only plain signs are drawn."""
        return not self._output.drawn_in.lower().startswith("utf")

    @property
    def _drawing(self) -> bool:
        """Whether the terminal is the app's: its threads are at work."""
        return self._key_thread is not None and self._key_thread.is_alive()

    def _sigtstp_application(self, *signal_and_frame: Any) -> None:
        """As in Textual, but before the terminal is the app's there is nothing to give back."""
        if self._drawing:
            super()._sigtstp_application(*signal_and_frame)
        else:
            os.kill(os.getpid(), signal.SIGSTOP)

    def _sigcont_application(self, *signal_and_frame: Any) -> None:
        """As in Textual after SIGTSTP. After SIGSTOP the terminal still is the app's. Others may have drawn on it."""
        if self._must_signal_resume:
            super()._sigcont_application(*signal_and_frame)
        if self._drawing:
            self._loop.call_soon_threadsafe(self._app.refresh)

    def run_input_thread(self) -> None:
        """As in Textual, but any bytes that are typed can be decoded, and a terminal that is gone ends the app."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        parser = AnySequences(self._debug)
        with selectors.SelectSelector() as selector:
            selector.register(self.fileno, selectors.EVENT_READ)
            selector.register(self._end_of_input, selectors.EVENT_READ)
            while not self.exit_event.is_set():
                ready = selector.select(_PAUSE_SECONDS if parser.waits or self._flooded else None)
                if not ready:
                    self.look_whether_it_is_over()
                elif not self.exit_event.is_set():
                    typed = self._typed()
                    if not typed:
                        self._leave()
                        return
                    for message in parser.feed(decoder.decode(typed)):
                        self.process_message(message)
                for message in parser.tick():
                    self.process_message(message)

    def _get_terminal_size(self) -> tuple[int, int]:
        return _drawable(*super()._get_terminal_size())

    def _query_in_band_window_resize(self) -> None:
        """Textual asks to be told of sizes in what is typed, where anything may claim any; the kernel tells them."""

    def _typed(self) -> bytes:
        """What was typed; nothing if the terminal is gone."""
        try:
            return os.read(self.fileno, _READ_BYTES)
        except OSError:
            return b""

    def _run_input_thread(self) -> None:
        """As in Textual, but what fails is reported as any other bug of the app is."""
        try:
            self.run_input_thread()
        except Exception as error:  # noqa: BLE001 - no other code sees a thread's exception
            self._app.call_later(self._app._handle_exception, error)

    def write(self, data: str) -> None:
        """As in Textual, in signs that the encoding has, and without waiting for ever when the app is to end."""
        if (writer := self._writer_thread) is not None:
            self._put(writer, in_cells(data, self._output.drawn_in))

    def close(self) -> None:
        """As in Textual, but a terminal that takes no output holds up the app's end only for a while."""
        if (writer := self._writer_thread) is not None:
            self._put(writer, None)
            self._wait_until(lambda: not writer.is_alive(), writer.join)

    def _put(self, writer: "WriterThread", text: str | None) -> None:
        """Hand it to the writing thread; None ends that thread."""
        put = False

        def try_to(seconds: float) -> None:
            nonlocal put
            with contextlib.suppress(queue.Full):
                writer._queue.put(text, timeout=seconds)
                put = True

        self._wait_until(lambda: put, try_to)

    def _wait_until(self, done: "Callable[[], bool]", wait: "Callable[[float], None]") -> None:
        """Wait for the terminal. Once the app is to end, wait only for a while if no output is taken."""
        silent, taken = 0.0, self._output.taken
        while not self._given_up:
            wait(_WAIT_SECONDS)
            if done():
                return
            leaving, before, taken = self._told_to_leave or self._app._exit, taken, self._output.taken
            silent = silent + _WAIT_SECONDS if leaving and taken == before else 0.0
            self._given_up = silent >= _LONGEST_SILENCE_SECONDS

    def set_title(self, title: str = "") -> None:
        """Give the terminal's window a title; without one, and when the app ends, it gets its own back."""
        if self._has_title:
            self.write("\x1b[23;2t")
        self._has_title = bool(title) and _takes_titles(os.environ)
        if self._has_title:
            self.write(f"\x1b[22;2t\x1b]2;{printable(title)}\x07")

    def tell_desktop(self, title: str, text: str) -> None:
        """Ask the terminal for a desktop notification; one that knows none ignores it."""
        self.write(desktop_sequence(title, text, os.environ))

    def stop_application_mode(self) -> None:
        self.set_title()
        super().stop_application_mode()


def _drawable(columns: int, rows: int) -> tuple[int, int]:
    return min(columns, _MOST_COLUMNS), min(rows, _MOST_ROWS)


def _takes_titles(environment: "Mapping[str, str]") -> bool:
    """Whether what is meant for a terminal's window would not be drawn as text instead."""
    return environment.get("TERM", "dumb") not in ("linux", "dumb")


def desktop_sequence(title: str, text: str, environment: "Mapping[str, str]") -> str:
    """What makes the terminal show a desktop notification: OSC 777 where it is known, else OSC 9. Never both.

    tmux hands it on to its own terminal if `allow-passthrough` is set there.
    """
    if not _takes_titles(environment):
        return ""
    title, text = (printable(flat(one)).replace(";", ",") for one in (title, text))
    term = environment.get("TERM", "")
    if "VTE_VERSION" in environment or term.startswith(("foot", "rxvt")):
        sequence = f"\x1b]777;notify;{title};{text}\x07"
    else:
        sequence = f"\x1b]9;{title}. {text}\x07"
    if "TMUX" in environment:
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return sequence


def in_cells(text: str, encoding: str) -> str:
    """The text with a plain sign of the same width for each that the encoding lacks."""
    if text.isascii() or encoding.lower().startswith("utf"):
        return text
    # In the place of the space before it, as `~` alone would say "about".
    return text.replace(" ±", "+-").encode(encoding, _PLAIN_CELLS).decode(encoding)


def _plain_cells(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text, end = error.object, error.end
    plain = "".join(_sign(char) * cell_len(char) for char in text[error.start : end])
    if text[end - 1] in _WITH_EQUALS and text[end : end + 1] == " ":  # 0 < 0 would be wrong where 0 ≤ 0 is said
        return f"{plain}=", end + 1
    return plain, end


def _sign(char: str) -> str:
    """One plain character in the place of this one."""
    if (sign := _NARROW.get(char) or SIGNS.get(char, "")) and len(sign) == 1:
        return sign
    words = unicodedata.name(char, "").split()
    if words[:2] == ["BRAILLE", "PATTERN"]:  # a curve
        return " " if words[2] == "BLANK" else "*"
    if words[:2] == ["BOX", "DRAWINGS"]:
        lies, stands = {"HORIZONTAL", "LEFT", "RIGHT"} & {*words}, {"VERTICAL", "UP", "DOWN"} & {*words}
        return "+" if lies and stands else "|" if stands else "-"
    if "BLOCK" in words or "EIGHTH" in words:  # an edge, or a filled cell
        return "-" if {"UPPER", "LOWER"} & {*words} else "|" if {"LEFT", "RIGHT"} & {*words} else "#"
    if (bare := unicodedata.normalize("NFD", char)[0]).isascii():  # é and ü can be read without their marks
        return bare
    if "TRIANGLE" in words:
        return "v" if "DOWN-POINTING" in words else "^" if "UP-POINTING" in words else ">"
    return "?"


codecs.register_error(_PLAIN_CELLS, _plain_cells)
