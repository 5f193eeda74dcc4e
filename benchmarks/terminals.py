"""An app in a pseudo terminal: what it writes, how fast it answers, what it costs."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tui.emulator import Emulator

_SECONDS = 120.0
_EVERY = 0.02
"""Seconds between two keys."""
_ESCAPE = re.compile(rb"\x1b\][^\x07]*\x07|\x1b[\[\(][0-?]*[ -/]*[@-~]|\x1b.")
_OURS = "import sys; from bitnet_tui.start import main; sys.exit(main())"


def ours(*arguments: str) -> list[str]:
    """The app's command: what the installed script does, started in the same way as a bare app."""
    return [sys.executable, "-c", _OURS, *arguments]


class Terminal:
    """An app in a pseudo terminal of 120×36. `folder` keeps its bytecode, as an installed package has it, too."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self.began = time.perf_counter()
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 36, 120, 0, 0))
            os.chdir(folder)
            os.environ.update(
                PYTHONPYCACHEPREFIX=str(folder / "bytecode"), XDG_STATE_HOME=str(folder / "state"),
                TERM="xterm-256color", COLORTERM="truecolor", COLUMNS="120", LINES="36",
            )  # fmt: skip
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            os.execv(command[0], command)  # noqa: S606
        self.seen = b""
        self._screen, self._on_screen = Emulator(), 0

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, seconds: float) -> int:
        """Take what is written in this time; returns how many bytes."""
        before, deadline = len(self.seen), time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                self.seen += os.read(self._terminal, 1 << 16)
        return len(self.seen) - before

    def press(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def until(self, *patterns: bytes, key: bytes = b"") -> float:
        """Milliseconds from the start until what is written matches all; the key is typed all the while."""
        while not all(self._wrote(one, 0) or self._shows(one) for one in patterns):
            if time.perf_counter() - self.began > _SECONDS:
                raise SystemExit(f"{patterns} were not drawn in {_SECONDS:.0f} s: {self.seen[-400:]!r}")
            if key:
                self.press(key)
            self.read(_EVERY)
        return (time.perf_counter() - self.began) * 1000

    def _wrote(self, pattern: bytes, since: int) -> bool:
        return re.search(pattern, _ESCAPE.sub(b"", self.seen[since:])) is not None

    def _shows(self, pattern: bytes) -> bool:
        """Whether it is on the screen: the app writes only cells that change."""
        self._screen.write(self.seen[self._on_screen :])
        self._on_screen = len(self.seen)
        return re.search(pattern, self._screen.text.encode()) is not None

    def answer_ms(self, key: bytes, pattern: bytes) -> float:
        """Milliseconds from a key until what is written after it matches."""
        self.read(0.0)
        appears = not self._shows(pattern)
        mark, pressed = len(self.seen), time.perf_counter()
        self.press(key)
        while not (self._wrote(pattern, mark) or (appears and self._shows(pattern))):
            if time.perf_counter() - pressed > _SECONDS:
                raise SystemExit(f"{pattern!r} did not follow {key!r}: {self.seen[mark:][-400:]!r}")
            if select.select([self._terminal], [], [], 1.0)[0]:
                self.seen += os.read(self._terminal, 1 << 16)
        return (time.perf_counter() - pressed) * 1000

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        with contextlib.suppress(OSError):
            os.close(self._terminal)
