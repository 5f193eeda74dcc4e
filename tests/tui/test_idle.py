"""Nothing is written to a real terminal while nothing changes. What the app draws of each screen: test_looks.py."""

from pathlib import Path

from tests.tui.quiet import QUIET_SECONDS
from tests.tui.terminal import Terminal


def test_nothing_is_written_to_a_real_terminal(workspaces: Path):
    """An experiment opened from the list, which is below it and does change, then a dialog over it."""
    with Terminal("--home", str(workspaces / "experiments")) as terminal:
        terminal.until("train 30%")
        terminal.wait_until_quiet(QUIET_SECONDS)
        for key, text in (("\r", "44.7k of 150k"), ("s", "Let it run"), ("\x1b", ""), ("a", "API keys")):
            terminal.press(key)
            terminal.until(text)
            terminal.wait_until_quiet(QUIET_SECONDS)
