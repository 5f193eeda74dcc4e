"""The app in a real terminal: tmux, 256 colours, keys pressed, screen read."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tui.simulated import finished_experiment

pytestmark = [
    pytest.mark.terminal,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
]
_REPO = str(Path(__file__).parents[2])
Tmux = Callable[..., str]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    """A private tmux server."""
    base = ["tmux", "-S", str(tmp_path / "socket"), "-f", os.devnull]

    def call(*words: str) -> str:
        return subprocess.run([*base, *words], check=True, capture_output=True, text=True).stdout

    yield call
    subprocess.run([*base, "kill-server"], capture_output=True, check=False)


def _until(tmux: Tmux, wanted: str) -> str:
    deadline = time.monotonic() + 30
    while wanted not in (screen := tmux("capture-pane", "-p")):
        assert time.monotonic() < deadline, f"{wanted!r} did not appear in\n{screen}"
        time.sleep(0.1)
    return screen


def test_open_look_around_and_leave(home: Path, tmux: Tmux):
    finished_experiment(home)
    app = shlex.join([sys.executable, "-m", "bitnet_tui", "--home", str(home)])
    # Without COLUMNS and LINES, which would override the size that tmux reports.
    command = f"env -u COLUMNS -u LINES PYTHONPATH={shlex.quote(_REPO)} {app}; echo left with $?; sleep 60"
    tmux("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", command)
    tmux("set", "-g", "status", "off")
    tmux("resize-window", "-x", "80", "-y", "24")
    assert "demo" in _until(tmux, " 7.28 ")
    tmux("send-keys", "Enter")
    _until(tmux, "(Q_s/Q_t)/(M_s/M_t)")
    tmux("send-keys", "Up")
    assert "flipped at 136k" in _until(tmux, "━ total")
    screen = _until(tmux, "└")
    assert all(len(line) <= 80 for line in screen.split("\n"))
    tmux("resize-window", "-x", "120", "-y", "36")
    _until(tmux, "Teacher baseline")
    tmux("send-keys", "?")
    _until(tmux, "Run what is selected")
    tmux("send-keys", "Escape")
    time.sleep(0.3)
    tmux("send-keys", "q")
    _until(tmux, "left with 0")
