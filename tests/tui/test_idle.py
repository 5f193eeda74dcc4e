"""Nothing is written to the terminal while nothing changes, whatever is on the screen and below it."""

import asyncio
import importlib
import pkgutil
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from textual.screen import Screen

from bitnet_core.runs.exports import GGUF, Exported
from bitnet_core.secrets import vault
from bitnet_tui import screens
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.exported import ExportedScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled, shown
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment
from tests.tui.terminal import Terminal

_QUIET_SECONDS = 1.3
"""Longer than a blink of Textual's cursor (0.5 s) and than the time between two looks at the files (1 s)."""
_AT_ONCE = 10
"""More in one process keep each other from being drawn."""
_Key = str | Callable[[], Screen[Any]]
"""A key, or a screen that only something long opens."""


def _exported() -> Screen[Any]:
    return ExportedScreen(Exported(Path("exports/one.gguf"), GGUF, 200, "a" * 64, 16_000_000, 0.0))


_SCREENS: dict[str, tuple[str, str | None, tuple[_Key, ...], str]] = {
    "welcome": ("nothing", None, (), "Try it now"),
    "list": ("experiments", None, (), "train 30%"),
    "list after an experiment": ("experiments", None, ("enter", "escape"), "train 30%"),
    "experiment without a run": ("experiments", "fresh", (), "Press p to run"),
    "experiment with a finished run": ("experiments", "finished", ("up",), "flipped at 136k"),
    "experiment with a silent run": ("experiments", "silent", (), "44.7k of 150k"),
    "storage of a silent run": ("experiments", "silent", ("5",), "No storage target is set"),
    "reports of a silent run": ("experiments", "silent", ("3",), "No results yet"),
    "checkpoints of a silent run": ("experiments", "silent", ("4",), "No checkpoint yet"),
    "a setting being changed": ("experiments", "silent", ("6", "slash", "u", "d", "enter", "enter"), "counts now"),
    "log of a silent run": ("experiments", "silent", ("7",), "lines"),
    "a comparison with a silent run": ("experiments", "silent", ("V", "enter"), "is called better yet"),
    "traces of a silent run": ("experiments", "silent", ("2",), "There are no traces"),
    "playground": ("experiments", "fresh", ("P",), "There is no student yet"),
    "what to compare with": ("experiments", "silent", ("V",), "space marks several"),
    "what a report is saved as": ("experiments", "silent", ("R",), "HTML"),
    "a target for an experiment": ("experiments", "silent", ("W",), "Only on this machine"),
    "what was exported": ("experiments", "finished", (_exported,), "Export again"),
    "benchmarks": ("experiments", None, ("B",), "Public benchmarks"),
    "a new name": ("experiments", None, ("r",), "Rename"),
    "a chart with a crosshair": ("experiments", "silent", ("c", "c", "x", "plus"), "‹ KL ›"),
    "experiment over the list": ("experiments", None, ("enter",), "following what runs"),
    "new experiment over the list": ("experiments", None, ("n",), "This machine"),
    "new experiment over welcome": ("nothing", None, ("n",), "This machine"),
    "its teacher": ("experiments", None, ("n", "ctrl+n"), "SmolLM2"),
    "its storage": ("experiments", None, ("n", *["ctrl+n"] * 2), "S3 or compatible"),
    "its student": ("experiments", None, ("n", *["ctrl+n"] * 3), "at least 26m"),
    "its review": ("experiments", None, ("n", *["ctrl+n"] * 4), "Start nothing yet"),
    "keys over a silent run": ("experiments", "silent", ("a",), "API keys"),
    "a key to type": ("experiments", None, ("a", "enter"), "Type or paste the key"),
    "help over a silent run": ("experiments", "silent", ("question_mark",), "esc closes"),
    "themes over a silent run": ("experiments", "silent", ("t",), "Leave it"),
    "keymap over a silent run": ("experiments", "silent", ("K",), "To give actions other keys"),
    "settings of the app": ("experiments", "silent", ("f3",), "Tell by a webhook"),
    "opening from a target": ("experiments", None, ("U",), "Name there"),
    "palette": ("experiments", None, ("ctrl+p",), "Create an experiment"),
    "stop a silent run": ("experiments", "silent", ("s",), "Let it run"),
    "a launch that was refused": ("experiments", "fresh", ("p",), "was refused"),
    "vault": ("experiments", "locked", ("p",), "Open the vault"),
}


@pytest.fixture
def workspaces(home: Path, isolated: Path) -> Iterator[Path]:
    """The folder with the workspaces `experiments` and `nothing`. The silent run has 50 s until its next minute."""
    finished_experiment(home, "finished")
    experiment(home, "fresh")
    path = isolated / "vault.json"
    vault.create(path, "correct horse").set("OPENAI_API_KEY", "sk-very-secret-key")
    locked = experiment(home, "locked").root / ".env"
    locked.write_text(f"TEACHER_PROVIDER=openai\nOPENAI_MODEL=m\nBITNET_VAULT={path}\n")
    silent = SimulatedRun(experiment(home, "silent"), "train", time.time() - 190, alive=True)
    silent.train(0, 60)
    try:
        yield home.parent
    finally:
        silent.end_process()


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


async def _stays_quiet(place: Path, home: str, root: str | None, keys: tuple[_Key, ...], text: str) -> str:
    """The name of the screen."""
    opened = place / home / root if root else None
    launch = None if root == "locked" else RecordingLaunch("It was refused.")
    async with BitnetApp(place / home, opened, launch=launch).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        for key in keys:
            if isinstance(key, str):
                await pilot.press(key)
            else:
                pilot.app.push_screen(key())
            await settled(pilot)
        written = _count_writes(pilot.app)  # type: ignore[arg-type]
        await _quiet(written, lambda: text in shown(pilot))
        return type(pilot.app.screen).__name__


def _names_of_all() -> set[str]:
    """The screens of the package that no other one builds on."""
    names = set()
    for module in pkgutil.walk_packages(screens.__path__, f"{screens.__name__}."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and issubclass(one, Screen) and one.__module__ == module.name:
                names |= {one.__name__} if not [*one.__subclasses__()] else set()
    return names


async def test_no_screen_is_redrawn_while_nothing_changes(workspaces: Path):
    """Several screens at once, each in an app of its own: most of the time they only wait."""
    ends: list[BaseException | str] = []
    every = list(_SCREENS.values())
    for first in range(0, len(every), _AT_ONCE):
        some = every[first : first + _AT_ONCE]
        apps: list[Awaitable[str]] = [_stays_quiet(workspaces, *screen) for screen in some]
        ends += await asyncio.gather(*apps, return_exceptions=True)
    assert {name: end for name, end in zip(_SCREENS, ends, strict=True) if not isinstance(end, str)} == {}
    assert _names_of_all() - {str(end) for end in ends} == set()


def test_nothing_is_written_to_a_real_terminal(workspaces: Path):
    """An experiment opened from the list, which is below it and does change, then a dialog over it."""
    with Terminal("--home", str(workspaces / "experiments")) as terminal:
        terminal.until("train 30%")
        terminal.wait_until_quiet(_QUIET_SECONDS)
        for key, text in (("\r", "44.7k of 150k"), ("s", "Let it run"), ("\x1b", ""), ("a", "API keys")):
            terminal.press(key)
            terminal.until(text)
            terminal.wait_until_quiet(_QUIET_SECONDS)
