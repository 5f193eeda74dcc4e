"""The welcome screen, the list of experiments, the help and the palette, driven by keys."""

import re
from pathlib import Path

import pytest

from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.help import HelpScreen
from bitnet_tui.widgets.table import Table
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import SIZES, settled, shown, until, words
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment


async def test_the_demo_that_is_asked_for_twice_is_opened_and_run_once(home: Path, recorder: RecordingLaunch):
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=recorder).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        asked = pilot.app.screen
        assert "d demo" in words(pilot)
        asked.action_demo()  # type: ignore[attr-defined]
        asked.action_demo()  # type: ignore[attr-defined]
        await settled(pilot)
        assert [type(one) for one in pilot.app.screen_stack] == [type(asked), ExperimentScreen]
        await pilot.press("escape")
        await until(pilot, lambda: "2 experiments" in shown(pilot) and "d demo" not in words(pilot))
    assert recorder.launched == [(home / "demo", "pipeline")]


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_shows_states_progress_and_qei(home: Path, size: tuple[int, int]):
    finished_experiment(home)
    live = SimulatedRun(experiment(home, "live"), "train", alive=True)
    try:
        live.train(0, 116)
        async with BitnetApp(home).run_test(size=size) as pilot:
            await settled(pilot)
            text = shown(pilot)
            assert "2 experiments, 1 running" in text
            assert "train 58%" in text
            assert re.search(r"demo +··↻↻· .* 7\.28 ↻", text)
            await pilot.press("down")
            table = pilot.app.screen.query_one(Table)
            under_cursor = table.key
            live.train(117, 150)
            await until(pilot, lambda: bool(re.search(r"live +··▸·· 75%", shown(pilot))))
            assert table.key == under_cursor == str(home / "demo")
    finally:
        live.end_process()


async def test_help_palette_and_a_screen_that_is_too_small(home: Path):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(100, 40)) as pilot:
        await settled(pilot)
        await pilot.press("f1")
        await pilot.pause()
        assert isinstance(pilot.app.screen, HelpScreen)
        assert "Open the highlighted experiment" in shown(pilot)
        await pilot.press("escape", "ctrl+p")
        await pilot.pause(0.3)
        assert "Create an experiment" in shown(pilot)
        await pilot.press("escape")
        await pilot.resize_terminal(50, 12)
        await settled(pilot)
        assert "too small" in shown(pilot)
        assert "demo" not in shown(pilot)


async def test_settings_that_are_wrong_are_shown_not_hidden(home: Path):
    exp = experiment(home, "wrong")
    (exp.root / ".env").write_text("KD_TAU=9000\n")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        assert "“Distillation temperature” = 9000" in shown(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert "“Distillation temperature” = 9000" in shown(pilot)
