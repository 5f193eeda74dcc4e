"""Nothing is written to the terminal while nothing changes, whatever is on the screen and below it."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bitnet_tui.app import BitnetApp
from tests.tui.every_screen import SCREENS, Way, app_of, go, names_of_all
from tests.tui.pilots import shown
from tests.tui.terminal import Terminal

_QUIET_SECONDS = 1.3
"""Longer than a blink of Textual's cursor (0.5 s) and than the time between two looks at the files (1 s)."""
_AT_ONCE = 10
"""More in one process keep each other from being drawn."""


def _count_writes(app: BitnetApp) -> list[object]:
    """What is given to the terminal from now on. Without a terminal, Textual drops it here."""
    written: list[object] = []
    app._display = lambda _, drawing: written.append(drawing)  # type: ignore[method-assign]
    return written


async def _quiet(written: list[object], is_shown: Callable[[], bool]) -> None:
    """Wait until nothing was written for a while. A slow machine only makes it wait longer."""
    deadline = time.monotonic() + 30
    while True:
        before = len(written)
        await asyncio.sleep(_QUIET_SECONDS)
        if is_shown() and len(written) == before:
            return
        assert time.monotonic() < deadline, "still being redrawn"


async def _stays_quiet(place: Path, way: Way) -> str:
    """The name of the screen."""
    async with app_of(place, way).run_test(size=(80, 24)) as pilot:
        await go(pilot, way)
        written = _count_writes(pilot.app)  # type: ignore[arg-type]
        await _quiet(written, lambda: way[-1] in shown(pilot))
        return type(pilot.app.screen).__name__


async def test_no_screen_is_redrawn_while_nothing_changes(workspaces: Path):
    """Several screens at once, each in an app of its own: most of the time they only wait."""
    ends: list[BaseException | str] = []
    every = list(SCREENS.values())
    for first in range(0, len(every), _AT_ONCE):
        some = every[first : first + _AT_ONCE]
        apps: list[Awaitable[str]] = [_stays_quiet(workspaces, way) for way in some]
        ends += await asyncio.gather(*apps, return_exceptions=True)
    assert {name: end for name, end in zip(SCREENS, ends, strict=True) if not isinstance(end, str)} == {}
    assert names_of_all() - {str(end) for end in ends} == set()


def test_nothing_is_written_to_a_real_terminal(workspaces: Path):
    """An experiment opened from the list, which is below it and does change, then a dialog over it."""
    with Terminal("--home", str(workspaces / "experiments")) as terminal:
        terminal.until("train 30%")
        terminal.wait_until_quiet(_QUIET_SECONDS)
        for key, text in (("\r", "44.7k of 150k"), ("s", "Let it run"), ("\x1b", ""), ("a", "API keys")):
            terminal.press(key)
            terminal.until(text)
            terminal.wait_until_quiet(_QUIET_SECONDS)
