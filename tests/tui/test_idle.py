"""What is written to a real terminal while nothing changes. What the app draws of each screen: test_looks.py."""

from pathlib import Path

from tests.tui.quiet import QUIET_SECONDS
from tests.tui.terminal import Terminal

_TICK_BYTES = 250
"""More than a clock needs in a second, and less than a screen."""
_MOST_STRETCHES = 20
"""In how many stretches of time more than the clock may be drawn; on a slow machine things come late."""


def test_nothing_is_written_to_a_real_terminal_while_nothing_runs(workspaces: Path):
    home = workspaces / "experiments"
    with Terminal("--home", str(home), "--root", str(home / "finished")) as terminal:
        terminal.until("(Q_s/Q_t)/(M_s/M_t)")
        terminal.wait_until_quiet(QUIET_SECONDS)
        for key, text in (("\x1b[A", "flipped at 136k"), ("a", "API keys"), ("\x1b", ""), ("\x1b", "4 experiments")):
            terminal.press(key)
            terminal.until(text)
            terminal.wait_until_quiet(QUIET_SECONDS)


def test_only_the_clock_is_written_while_a_stage_is_silent(workspaces: Path):
    home = workspaces / "experiments"
    with Terminal("--home", str(home), "--root", str(home / "silent")) as terminal:
        terminal.until("44.7k of 150k")
        for _ in range(_MOST_STRETCHES):
            before, seconds = terminal.shown, 4
            written = terminal.read(seconds)
            lines = zip(before.split("\n"), terminal.shown.split("\n"), strict=False)
            changed = [now for was, now in lines if was != now]
            if len(changed) == 1 and " ▸ running   " in changed[0] and written < seconds * _TICK_BYTES:
                return
        raise AssertionError(f"{written} bytes in {seconds} s, for {changed}")
