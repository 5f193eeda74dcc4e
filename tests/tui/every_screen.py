"""Every screen of the app, with the keys that lead to it and a text that is then shown."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.screen import Screen

from bitnet_core.runs.exports import GGUF, Exported
from bitnet_tui import screens
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.exported import ExportedScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled

Key = str | Callable[[], Screen[Any]]
"""A key, or a screen that only something long opens."""


def _exported() -> Screen[Any]:
    return ExportedScreen(Exported(Path("exports/one.gguf"), GGUF, 200, "a" * 64, 16_000_000, 0.0))


Way = tuple[str, str | None, tuple[Key, ...], str]
"""A workspace, the experiment that is opened or None, the keys, and the text."""
SCREENS: dict[str, Way] = {
    "welcome": ("nothing", None, (), "Try it now"),
    "list": ("experiments", None, (), "train 30%"),
    "list after an experiment": ("experiments", None, ("enter", "escape"), "train 30%"),
    "experiment without a run": ("experiments", "fresh", (), "Press p to run"),
    "experiment with a finished run": ("experiments", "finished", ("up",), "flipped at 136k"),
    "experiment with a silent run": ("experiments", "silent", (), "44.7k of 150k"),
    "storage of a silent run": ("experiments", "silent", ("5",), "No storage target is set"),
    "reports of a silent run": ("experiments", "silent", ("3",), "No results yet"),
    "checkpoints of a silent run": ("experiments", "silent", ("4",), "No checkpoint yet"),
    "a setting being changed": ("experiments", "silent", ("6", "slash", "l", "r", "enter", "enter"), "counts now"),
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


def names_of_all() -> set[str]:
    """The screens of the package that no other one builds on."""
    names = set()
    for module in pkgutil.walk_packages(screens.__path__, f"{screens.__name__}."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and issubclass(one, Screen) and one.__module__ == module.name:
                names |= {one.__name__} if not [*one.__subclasses__()] else set()
    return names


def app_of(place: Path, way: Way) -> BitnetApp:
    """`place` has the workspaces. Stages are refused, except where the vault has to be asked for."""
    home, root, _, _ = way
    launch = None if root == "locked" else RecordingLaunch("It was refused.")
    return BitnetApp(place / home, place / home / root if root else None, launch=launch)


async def go(pilot: Pilot[None], way: Way) -> None:
    await settled(pilot)
    for key in way[2]:
        if isinstance(key, str):
            await pilot.press(key)
        else:
            pilot.app.push_screen(key())
        await settled(pilot)
