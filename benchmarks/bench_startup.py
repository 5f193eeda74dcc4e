"""First paint of bitnet-tui in a pseudo terminal, against a bare Textual app measured by turns in the same run.

    python benchmarks/bench_startup.py [--rounds 9] [--json]

Prints medians in milliseconds, their ratio, and the time of `bitnet --help`. First paint is the moment when a word of
the first screen reaches the terminal. The exit code is 1 if the ratio is above --limit.
"""

import argparse
import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

_BARE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("bare-is-painted")
Bare().run()
"""
_OURS = "import sys; from bitnet_tui.start import main; sys.exit(main())"
_SECONDS = 30.0


def first_paint(command: list[str], word: bytes, folder: Path) -> float:
    """Milliseconds from the start of the process until `word` has been written to its terminal."""
    began = time.perf_counter()
    pid, terminal = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        os.chdir(folder)
        os.environ.update(
            _environment(folder), TERM="xterm-256color", COLORTERM="truecolor", COLUMNS="100", LINES="30"
        )
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.execv(command[0], command)  # noqa: S606
    seen = b""
    try:
        while word not in seen:
            if time.perf_counter() - began > _SECONDS:
                raise SystemExit(f"{command} did not paint {word!r} in {_SECONDS:.0f} s: {seen[-400:]!r}")
            if select.select([terminal], [], [], 0.5)[0]:
                seen += os.read(terminal, 1 << 16)
        return (time.perf_counter() - began) * 1000
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            os.close(terminal)


def _environment(folder: Path) -> dict[str, str]:
    """Keeps bytecode in the benchmark's own folder: an installed package has its bytecode, too."""
    return {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}


def run_time(command: list[str], folder: Path) -> float:
    """Milliseconds from the start of a command to its end."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment | _environment(folder))
    return (time.perf_counter() - began) * 1000


def workspace(folder: Path) -> Path:
    """Five experiments, so that the first screen is the list."""
    home = folder / "experiments"
    for number in range(5):
        root = home / f"experiment-{number}"
        root.mkdir(parents=True)
        (root / ".env").write_text("SEED=1\n")
    return home


def measure(rounds: int) -> dict[str, float]:
    bare, ours, help_times = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Does what the installed script does, but is started in the same way as the bare app.
        app = [sys.executable, "-c", _OURS, "--home", str(workspace(folder))]
        for _ in range(rounds + 1):
            bare.append(first_paint([sys.executable, "-c", _BARE], b"bare-is-painted", folder))
            ours.append(first_paint(app, b"bitnet-tui", folder))
            help_times.append(run_time([sys.executable, "-m", "bitnet_core", "--help"], folder))
    # The first round only warms the disk cache.
    medians = [statistics.median(times[1:]) for times in (bare, ours, help_times)]
    return {
        "bare_textual_ms": round(medians[0], 1),
        "bitnet_tui_ms": round(medians[1], 1),
        "ratio": round(medians[1] / medians[0], 3),
        "bitnet_help_ms": round(medians[2], 1),
        "rounds": rounds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--limit", type=float, default=1.25, help="largest ratio to accept")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rounds)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<16} {value:>8}")
    return 0 if result["ratio"] <= options.limit else 1


if __name__ == "__main__":
    sys.exit(main())
