"""Every screen of the app, with the keys that lead to it."""

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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


class Way(NamedTuple):
    """How a screen is reached."""

    workspace: str
    experiment: str | None
    """The one that is opened, if any."""
    keys: tuple[Key, ...]
    text: str
    """What is then shown."""
    screen: str
    """The name of its class."""


SCREENS: dict[str, Way] = {
    "welcome": Way("nothing", None, (), "Try it now", "WelcomeScreen"),
    "list": Way("experiments", None, (), "train 30%", "ExperimentsScreen"),
    "list after an experiment": Way("experiments", None, ("enter", "escape"), "train 30%", "ExperimentsScreen"),
    "experiment without a run": Way("experiments", "fresh", (), "Press p to run", "ExperimentScreen"),
    "experiment with a finished run": Way("experiments", "finished", ("up",), "flipped at 136k", "ExperimentScreen"),
    "experiment with a silent run": Way("experiments", "silent", (), "44.7k of 150k", "ExperimentScreen"),
    "storage of a silent run": Way("experiments", "silent", ("5",), "No storage target is set", "ExperimentScreen"),
    "reports of a silent run": Way("experiments", "silent", ("3",), "No results yet", "ExperimentScreen"),
    "checkpoints of a silent run": Way("experiments", "silent", ("4",), "No checkpoint yet", "ExperimentScreen"),
    "a setting being changed": Way(
        "experiments", "silent", ("6", "slash", "l", "r", "enter", "enter"), "its value now", "ExperimentScreen"
    ),
    "log of a silent run": Way("experiments", "silent", ("7",), "lines", "ExperimentScreen"),
    "a comparison with a silent run": Way(
        "experiments", "silent", ("V", "enter"), "none is called better yet", "CompareScreen"
    ),
    "traces of a silent run": Way("experiments", "silent", ("2",), "There are no traces", "ExperimentScreen"),
    "playground": Way("experiments", "fresh", ("P",), "There is no student yet", "PlaygroundScreen"),
    "what to compare with": Way("experiments", "silent", ("V",), "space marks several", "CompareWithScreen"),
    "what a report is saved as": Way("experiments", "silent", ("R",), "HTML", "PickScreen"),
    "a target for an experiment": Way("experiments", "silent", ("W",), "Only on this machine", "TargetScreen"),
    "what was exported": Way("experiments", "finished", (_exported,), "Export again", "ExportedScreen"),
    "benchmarks": Way("experiments", None, ("B",), "Public benchmarks", "BenchmarksScreen"),
    "a new name": Way("experiments", None, ("end", "r"), "Rename", "RenameScreen"),
    "a chart with a crosshair": Way("experiments", "silent", ("c", "c", "x", "plus"), "‹ KL ›", "ExperimentScreen"),
    "experiment over the list": Way("experiments", None, ("enter",), "following what runs", "ExperimentScreen"),
    "new experiment over the list": Way("experiments", None, ("n",), "This machine", "NewExperimentScreen"),
    "new experiment over welcome": Way("nothing", None, ("n",), "This machine", "NewExperimentScreen"),
    "its teacher": Way("experiments", None, ("n", "ctrl+n"), "SmolLM2", "NewExperimentScreen"),
    "its storage": Way("experiments", None, ("n", *["ctrl+n"] * 2), "S3 or compatible", "NewExperimentScreen"),
    "its student": Way("experiments", None, ("n", *["ctrl+n"] * 3), "at least 26m", "NewExperimentScreen"),
    "its review": Way("experiments", None, ("n", *["ctrl+n"] * 4), "Start nothing yet", "NewExperimentScreen"),
    "keys over a silent run": Way("experiments", "silent", ("a",), "API keys", "KeysScreen"),
    "a key to type": Way("experiments", None, ("a", "enter"), "Type or paste the key", "KeyEntryScreen"),
    "help over a silent run": Way("experiments", "silent", ("question_mark",), "esc closes", "HelpScreen"),
    "themes over a silent run": Way("experiments", "silent", ("t",), "Cancel", "ThemesScreen"),
    "keymap over a silent run": Way("experiments", "silent", ("K",), "To give actions other keys", "KeymapScreen"),
    "settings of the app": Way("experiments", "silent", ("f3",), "Notify by a webhook", "AppSettingsScreen"),
    "fetching": Way("experiments", None, ("U",), "Name there", "FetchScreen"),
    "palette": Way("experiments", None, ("ctrl+p",), "Create an experiment", "Palette"),
    "stop a silent run": Way("experiments", "silent", ("s",), "Stop it", "ConfirmScreen"),
    "a launch that was refused": Way("experiments", "fresh", ("p",), "was refused", "MessageScreen"),
    "vault": Way("experiments", "locked", ("p",), "Open the vault", "VaultScreen"),
}


def names_of_all() -> set[str]:
    """The screens of the package that no other one builds on."""
    found = pkgutil.walk_packages(screens.__path__, f"{screens.__name__}.")
    modules = [
        importlib.import_module(one.name) for one in found
    ]  # all of them, before one is asked who builds on it
    kinds = ((one, module) for module in modules for one in vars(module).values() if isinstance(one, type))
    return {
        one.__name__
        for one, module in kinds
        if issubclass(one, Screen) and one.__module__ == module.__name__ and not one.__subclasses__()
    }


def app_of(place: Path, way: Way) -> BitnetApp:
    """`place` has the workspaces. Stages are refused, except where the vault has to be asked for."""
    launch = None if way.experiment == "locked" else RecordingLaunch("It was refused.")
    home = place / way.workspace
    return BitnetApp(home, home / way.experiment if way.experiment else None, launch=launch)


def by_keys(way: Way) -> bool:
    """Whether keys alone lead there, in an app that refuses no launch."""
    return all(isinstance(key, str) for key in way.keys) and way.screen != "MessageScreen"


async def go(pilot: Pilot[None], way: Way) -> None:
    await settled(pilot)
    for key in way.keys:
        if isinstance(key, str):
            await pilot.press(key)
        else:
            pilot.app.push_screen(key())
        await settled(pilot)
