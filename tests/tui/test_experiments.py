"""The welcome screen, the list of experiments, the help and the palette, driven by keys."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from textual.widgets import Button

from bitnet_core.files import asset
from bitnet_tui.app import BitnetApp
from bitnet_tui.plain import listing
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.help import HelpScreen
from bitnet_tui.screens.welcome import WelcomeScreen
from bitnet_tui.widgets.table import Table
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import SIZES, click_on, settled, shown, until, words
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment


async def test_first_run_makes_the_demo_and_asks_for_its_pipeline(home: Path, recorder: RecordingLaunch):
    async with BitnetApp(home, launch=recorder).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert isinstance(pilot.app.screen, WelcomeScreen)
        assert isinstance(pilot.app.focused, Button)
        assert str(pilot.app.focused.label) == "Try it now, no key needed"
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
    assert recorder.launched == [(home / "demo", "pipeline")]
    assert (home / "demo" / ".env").read_text() == asset("demo.env").read_text()


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


@pytest.mark.parametrize(("hand", "size"), [("keys", SIZES[0]), ("mouse", SIZES[1])])
async def test_what_is_from_before_a_change_is_marked_everywhere(home: Path, hand: str, size: tuple[int, int]):
    """In the stages, above the results, in Reports, in the list, beside another one and in the listing as text."""
    for name in ("demo", "other"):
        exp = finished_experiment(home, name)
        (exp.reports / "mini_evaluation_report.json").write_text("{}")
        (exp.checkpoints / "mini_bitnet_step_200.pt").touch()
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:

        async def do(keys: Sequence[str], *cells: str) -> None:
            """Press these keys; by mouse, click at the cells that show these words instead."""
            if hand == "keys":
                await pilot.press(*keys)
                await settled(pilot)
            else:
                for cell in cells:
                    await click_on(pilot, cell)

        await settled(pilot)
        assert len(re.findall(r"··✓✓· .* 7\.28  ", shown(pilot))) == 2
        assert "(outdated)" not in listing(home)
        if hand == "keys" and " ▌○ demo" not in shown(pilot):
            await pilot.press("down")
        await do(["enter"], "demo", "demo")
        assert "✓ done" in shown(pilot)
        assert "Since these results" not in shown(pilot)
        await do(["6", "slash"], "6 Config", "filter (/)")
        await pilot.press(*"eval_max_prompts")
        await settled(pilot)
        await do(["enter", "enter"], "  Evaluation prompts  ")
        await pilot.press("end", *"1")
        await settled(pilot)
        await do(["enter"], "Save")
        assert "▲ “Evaluate” is outdated." in words(pilot)
        await until(pilot, lambda: "↻ outdated" in shown(pilot) or "↻ eval" in shown(pilot))
        await do(["1"], "1 Live")
        await until(pilot, lambda: "Since these results: “Evaluation prompts” 10 → 101; r runs it" in words(pilot))
        await click_on(pilot, "✓ train" if hand == "mouse" else "✓ Train")
        await do(["3"], "3 Reports")
        await until(pilot, lambda: "outdated: settings or input have changed" in words(pilot))
        await do(["escape"], "esc Back")
        await until(pilot, lambda: "QEI from before a change" in shown(pilot))
        assert re.search(r"demo +··✓↻· .* 7\.28 ↻", shown(pilot))
        assert re.search(r"other +··✓✓· .* 7\.28  ", shown(pilot))
        await do(["space", "down", "up", "up", "space", "V"], "○ demo", "○ other", "V Compare")
        await until(pilot, lambda: "7.28 ↻" in shown(pilot) or "7.28↻" in shown(pilot))
    assert listing(home).count("QEI 7.28 (outdated))") == 1
