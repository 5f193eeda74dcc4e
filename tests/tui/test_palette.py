"""The palette finds everything that can be done, from wherever one is, and says where the rest works."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandList
from textual.pilot import Pilot
from textual.timer import Timer

from bitnet_tui.app import BitnetApp
from bitnet_tui.labels import title
from bitnet_tui.screens.palette import Palette
from bitnet_tui.services import preferences
from bitnet_tui.widgets.config_pane import ConfigPane
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, notices, settled, shown, until
from tests.tui.simulated import experiment, finished_experiment


async def _choose(pilot: Pilot[None], typed: str, expected: str) -> None:
    """Search, wait for what is expected to stand first, and take it."""
    await pilot.press("ctrl+p", *("space" if one == " " else one for one in typed))
    await until(pilot, lambda: expected in _first(pilot))
    await pilot.press("enter")
    await settled(pilot)


def _offered(pilot: Pilot[None]) -> list[str]:
    lists = pilot.app.screen.query(CommandList)
    return [str(getattr(getattr(one, "hit", None), "text", "")) for one in lists.first().options] if lists else []


def _first(pilot: Pilot[None]) -> str:
    return next(iter(_offered(pilot)), "")


async def test_help_leads_to_all_actions_of_the_screen_below(home: Path):
    exp = finished_experiment(home, "kd")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch(warning="")).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await click_on(pilot, "? Help")
        await click_on(pilot, "ctrl+p All actions")
        await until(pilot, lambda: _first(pilot) == "Run stage")
        await until(pilot, lambda: "Type to find more" in _offered(pilot))
        assert _offered(pilot).count("New") == 1
        assert "New experiment" not in _offered(pilot)  # the same by another name
        assert isinstance(pilot.app.screen, Palette)
        await pilot.press(*"chart")
        await until(pilot, lambda: "Next chart" in _first(pilot))
        await pilot.press("escape")
        await settled(pilot)
        assert pilot.app.screen.query("#run"), "Help is closed as well"


async def test_from_home_it_goes_to_experiments_and_changes_the_theme(home: Path):
    experiment(home, "second")
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(size=(110, 36)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+p")
        await until(pilot, lambda: re.search(r" V c\W*$", shown(pilot), re.MULTILINE) is not None)
        await settled(pilot)
        found = pilot.app.screen.query_one(CommandList)
        assert found.virtual_size.height == found.option_count, f"a line is broken:\n{shown(pilot)}"
        await pilot.press(*"new")
        await until(pilot, lambda: _first(pilot) == "New")
        assert "New experiment" not in shown(pilot)  # the same by another name
        await pilot.press("escape")
        await settled(pilot)
        await _choose(pilot, "second", "Open second")
        await until(pilot, lambda: getattr(pilot.app.screen, "root", None) == home / "second")
        await _choose(pilot, "open kd", "Open kd")
        await until(pilot, lambda: getattr(pilot.app.screen, "root", None) == home / "kd")
        assert len(pilot.app.screen_stack) == 2  # the other one is closed
        await _choose(pilot, "theme: light", "Theme: Light")
        await until(pilot, lambda: preferences.read().theme() == pilot.app.theme != "")
        await _choose(pilot, "home", "Home")
        assert len(pilot.app.screen_stack) == 1


async def test_in_an_experiment_it_goes_to_settings_and_into_tabs(home: Path):
    exp = finished_experiment(home, "kd")
    async with BitnetApp(home, exp.root, launch=RecordingLaunch(warning="")).run_test(size=(110, 36)) as pilot:
        await settled(pilot)
        await _choose(pilot, "grad_clip_norm", "Setting: Gradient clip · GRAD_CLIP_NORM")
        pane = pilot.app.screen.query_one(ConfigPane)
        await until(pilot, lambda: pane._row is not None and pane._row.name == "GRAD_CLIP_NORM")
        await _choose(pilot, "level", "Level")
        assert pilot.app.screen.query_one("#switch").current == "log"  # type: ignore[attr-defined]
        await until(pilot, lambda: "info+" in shown(pilot))
        await _choose(pilot, "stop", "Stop")
        await pilot.press("ctrl+p", *"machine")
        await until(pilot, lambda: "Export" in _offered(pilot))
        await pilot.press("escape")
        await settled(pilot)
        # The key R is that of another action in the Traces tab.
        await pilot.press("2")
        await _choose(pilot, "save report", "Save report")
        assert "Save the report as" in shown(pilot)


async def test_what_works_elsewhere_is_found_with_its_place(home: Path):
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch(warning="")).run_test(
        size=(110, 36), notifications=True
    ) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+p", *"crosshair")
        await until(pilot, lambda: "only in an experiment" in shown(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: any("Crosshair: only in an experiment." in one for one in notices(pilot)))
        await pilot.press("ctrl+p")
        await until(pilot, lambda: "Type to find more" in shown(pilot) or "Create an experiment" in shown(pilot))
        assert "only in" not in "\n".join(shown(pilot).splitlines()[1:])
        await pilot.press(*"grad_clip_norm")
        await until(pilot, lambda: "only in an experiment's Config tab" in shown(pilot))


async def test_a_setting_is_found_and_its_row_is_in_view(home: Path):
    root = finished_experiment(home, "kd").root
    async with BitnetApp(home, root, launch=RecordingLaunch(warning="")).run_test(size=(100, 30)) as pilot:
        await settled(pilot)
        for name in ("LR", "GATE_QEI", "LR"):
            await _choose(pilot, name.lower(), f"Setting: {title(name)} · {name}")
            assert re.search(rf"^[ ●▌]*{title(name)} .* (default|line \d+)\W*$", shown(pilot), re.MULTILINE), shown(
                pilot
            )


async def test_that_nothing_is_found_is_said_as_soon_as_it_is_known(home: Path, monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    monkeypatch.setattr(Palette, "set_timer", _noting(waits, Palette.set_timer))
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("ctrl+p", *"qqxzj")
        waits.clear()
        await pilot.press("v")
        await until(pilot, lambda: "No matches found" in shown(pilot))
        assert min(waits) < 0.1


def _noting(waits: list[float], set_timer: Callable[..., Timer]) -> Callable[..., Timer]:
    def noted(screen: Palette, delay: float, *given: Any, **named: Any) -> Timer:
        waits.append(delay)
        return set_timer(screen, delay, *given, **named)

    return noted
