"""A stylesheet is loaded when its screen first opens, and stays: it must not reach into any other screen."""

from pathlib import Path

import pytest
from textual.app import App

import bitnet_tui
from bitnet_tui.app import BitnetApp
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled
from tests.tui.simulated import finished_experiment

_ALL = sorted(Path(bitnet_tui.__file__).parent.rglob("*.tcss"))


def _looks(app: App[None]) -> list[tuple[str, list[str]]]:
    """Each widget of the screen with the rules that hold for it."""
    widgets = app.screen.walk_children(with_self=True)
    return [(str(one.css_identifier), one._css_styles.css.splitlines()) for one in widgets]


@pytest.mark.parametrize("keys", ["", "n", "U", "a", "f3", "K", "?", "D", "r", "x", "enter", "enter 2", "enter V",
                                  "enter 6", "P", "ctrl+p"])  # fmt: skip
async def test_a_screen_looks_as_it_does_when_every_other_one_has_been_open(home: Path, keys: str) -> None:
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(160, 50)) as pilot:
        await settled(pilot)
        for key in keys.split():
            await pilot.press(key)
            await settled(pilot)
        before = _looks(pilot.app)
        for path in _ALL:
            if not pilot.app.stylesheet.has_source(str(path), ""):
                pilot.app.stylesheet.read(path)
        pilot.app.stylesheet.update(pilot.app)
        pilot.app.stylesheet.update(pilot.app.screen)
        changed = {
            name: sorted({*old} ^ {*new})
            for (name, old), (_, new) in zip(before, _looks(pilot.app), strict=True)
            if old != new
        }
        assert changed == {}
