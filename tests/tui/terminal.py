"""The app in a pseudo-terminal of its own: presses keys, waits for text, and counts the bytes that are written."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from tests.tui.emulator import Emulator

_REPO = str(Path(__file__).parents[2])


class Terminal:
    """One app, or with `command` any program. `written` holds all bytes that it has written so far."""

    def __init__(
        self,
        *arguments: str,
        columns: int = 80,
        rows: int = 24,
        command: Sequence[str] = (sys.executable, "-m", "bitnet_tui"),
        **variables: str,
    ) -> None:
        self._screen, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={**environment, "PYTHONPATH": _REPO, "TERM": "xterm-256color", **variables},
        )
        os.close(inner)
        self.written = b""
        self._mark = self._emulated = 0
        self._emulator = Emulator()

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self.hang_up()

    def hang_up(self) -> None:
        """Close the terminal below the app, which is no session of it and so gets no signal."""
        if self._screen >= 0:
            os.close(self._screen)
        self._screen = -1

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait_until_stopped(self) -> None:
        while psutil.Process(self._process.pid).status() != psutil.STATUS_STOPPED:
            self.read(0.05)

    def wipe(self) -> None:
        """Somebody else clears the screen."""
        self.read(0)
        self._emulator, self._emulated = Emulator(), len(self.written)

    def wait(self, seconds: float = 60) -> int:
        """The exit code, once the app has ended; what it writes until then is read."""
        deadline = time.monotonic() + seconds
        while self.exit_code is None:
            assert time.monotonic() < deadline, "the app did not end"
            if self._screen >= 0:
                self.read(0.05)
            else:
                time.sleep(0.05)
        if self._screen >= 0:
            self.read(0.05)
        return self._process.returncode

    def wait_unread(self, seconds: float = 60) -> int:
        """The exit code, once the app has ended; the terminal takes nothing of what it writes."""
        return self._process.wait(seconds)

    @property
    def processor_seconds(self) -> float:
        """What the app has used of the processors, to a hundredth."""
        return sum(psutil.Process(self._process.pid).cpu_times()[:2])

    @property
    def modes(self) -> list[object]:
        """How the terminal treats what is typed, as `stty` shows it."""
        return termios.tcgetattr(self._screen)[:4]

    def press(self, *keys: str) -> None:
        """Type, as one burst. What `until` waits for has to appear after it."""
        self.send("".join(keys).encode())

    def send(self, typed: bytes) -> None:
        self.read(0)
        self._mark = len(self.written)
        os.write(self._screen, typed)

    @property
    def exit_code(self) -> int | None:
        """None while the app runs."""
        return self._process.poll()

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, wanted: str, seconds: float = 60) -> None:
        """Wait until something has been written since the last key, and the text is on the screen."""
        deadline = time.monotonic() + seconds
        while len(self.written) == self._mark or wanted not in self.shown:
            assert time.monotonic() < deadline, f"{wanted!r} did not appear in\n{self.shown}"
            self.read(0.1)

    def until_gone(self, unwanted: str, seconds: float = 60) -> None:
        """Wait until the text is not on the screen."""
        deadline = time.monotonic() + seconds
        while unwanted in self.shown:
            assert time.monotonic() < deadline, f"{unwanted!r} is still in\n{self.shown}"
            self.read(0.1)

    @property
    def shown(self) -> str:
        """The text on the screen."""
        self._emulator.write(self.written[self._emulated :])
        self._emulated = len(self.written)
        return self._emulator.text

    def read(self, seconds: float) -> int:
        """Take what is written in this time; returns how many bytes."""
        before, deadline = len(self.written), time.monotonic() + seconds
        while select.select([self._screen], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                self.written += os.read(self._screen, 1 << 16)
            except OSError:  # the app has ended
                break
        return len(self.written) - before

    def wait_until_quiet(self, seconds: float, limit: float = 60) -> None:
        """Wait until nothing has been written for this long."""
        deadline = time.monotonic() + limit
        while self.read(seconds):
            assert time.monotonic() < deadline, f"still written: {self.written[-300:]!r}"
