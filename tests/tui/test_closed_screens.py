"""Dialogs and screens that are closed: what goes with them, and what arrives after that."""

import asyncio
import threading
from pathlib import Path

import pytest
from textual.widgets import Button

from bitnet_core.errors import BitnetError
from bitnet_core.secrets.places import VaultLocked
from bitnet_tui import keystrokes
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.base import BaseScreen
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.screens.vault import VaultScreen
from bitnet_tui.services.launching import Launched
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import burst, click_on, notices, processed, settled
from tests.tui.simulated import finished_experiment


@pytest.mark.parametrize("keys", [["enter", "enter"], ["enter", "escape"], ["enter", "n"], ["escape", "enter"]])
async def test_a_dialog_closes_only_itself(home: Path, keys: list[str]):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        answers: list[bool | None] = []
        pilot.app.push_screen(ConfirmScreen("Sure?", "Think.", "Yes", "No"), answers.append)
        await settled(pilot)
        assert isinstance(pilot.app.focused, Button)
        burst(pilot.app, keys)  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)
        assert answers == [False]


@pytest.mark.parametrize("key", ["a", "f3", "K", "R", "t", "question_mark", "B", "V", "s"])
async def test_a_click_beside_a_dialog_closes_it_and_one_in_it_does_not(home: Path, key: str):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        if key == "s":
            pilot.app.push_screen(ConfirmScreen("Sure?", "Think.", "Yes", "No"))
        else:
            await pilot.press(key)
        await settled(pilot)
        dialog = pilot.app.screen
        assert dialog.is_modal
        await pilot.click(".card .title")
        await settled(pilot)
        assert pilot.app.screen is dialog
        await pilot.click(offset=(0, 0))
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen)


@pytest.mark.parametrize(
    ("key", "words"),
    [("f3", "esc closes"), ("K", "esc closes"), ("question_mark", "esc closes"), ("a", "esc closes")],
)
async def test_a_click_on_the_words_that_name_the_way_out_takes_it(home: Path, key: str, words: str):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(key)
        await settled(pilot)
        assert pilot.app.screen.is_modal
        await click_on(pilot, words)
        assert isinstance(pilot.app.screen, ExperimentScreen)


async def test_a_form_in_which_one_types_stays_where_one_clicks_beside_it(home: Path):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("r")
        await settled(pilot)
        form = pilot.app.screen
        await pilot.click(offset=(0, 0))
        await settled(pilot)
        assert pilot.app.screen is form


@pytest.mark.parametrize("key", ["n", "U"])
async def test_a_guide_is_left_by_a_click_on_the_words_that_say_so(home: Path, key: str):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press(key)
        await settled(pilot)
        guide = pilot.app.screen
        await pilot.click(offset=(2, 0))
        await settled(pilot)
        assert pilot.app.screen is guide
        await click_on(pilot, "esc leaves")
        assert [type(screen) for screen in pilot.app.screen_stack] == [ExperimentsScreen]


async def test_a_covered_screen_takes_what_is_above_it_along(home: Path):
    """A slow call may end, and close its form, while the help is open over it."""
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("n")
        await settled(pilot)
        form = pilot.app.screen
        await pilot.press("f1")
        await settled(pilot)
        form.dismiss(None)
        form.dismiss(None)
        await settled(pilot)
        assert [type(screen) for screen in pilot.app.screen_stack] == [ExperimentsScreen]


async def test_a_closed_form_hears_that_it_was_closed_but_no_late_answer(home: Path, monkeypatch: pytest.MonkeyPatch):
    """A test of a model is cancelled when its form is closed; what it answers then changes nothing."""
    heard: list[str] = []

    monkeypatch.setattr(NewExperimentScreen, "on_unmount", lambda _: heard.append("unmounted"))
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        form = NewExperimentScreen()
        pilot.app.push_screen(form)
        await settled(pilot)
        gate = threading.Event()
        form.attempt(gate.wait, heard.append)  # type: ignore[arg-type]
        form.dismiss(None)
        await pilot.pause()
        gate.set()
        await settled(pilot)
        assert heard == ["unmounted"]
        assert notices(pilot) == []


class _SlowLaunch(RecordingLaunch):
    """Starts nothing until it is told to go on, and then fails."""

    def __init__(self, error: BitnetError) -> None:
        super().__init__()
        self.go_on = threading.Event()
        self._error = error

    def __call__(self, *where: object) -> Launched:
        self.go_on.wait(30)
        raise self._error


async def test_a_start_that_fails_after_its_screen_was_closed_is_told(home: Path):
    exp = finished_experiment(home)
    launch = _SlowLaunch(BitnetError("reports is a file; remove it."))
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("p", "escape")
        await pilot.pause(0.2)
        assert isinstance(pilot.app.screen, ExperimentsScreen)
        launch.go_on.set()
        await settled(pilot)
        (notice,) = notices(pilot)
        assert "not started" in notice
        assert "reports is a file; remove it." in notice


async def test_a_start_asks_for_the_passphrase_after_its_screen_was_closed(home: Path, tmp_path: Path):
    exp = finished_experiment(home)
    locked = VaultLocked(tmp_path / "vault.json", "X_KEY is in the vault")
    launch = _SlowLaunch(locked)
    async with BitnetApp(home, exp.root, launch=launch).run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await pilot.press("p", "escape")
        await pilot.pause(0.2)
        launch.go_on.set()
        await settled(pilot)
        assert isinstance(pilot.app.screen, VaultScreen)
        await pilot.press("escape")
        await settled(pilot)
        assert any("was not started: X_KEY is in the vault" in notice for notice in notices(pilot))


async def test_a_stop_that_fails_after_its_screen_was_closed_is_told(home: Path):
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(
        size=(80, 24), notifications=True
    ) as pilot:
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentScreen)
        await pilot.press("escape")
        await settled(pilot)
        pilot.app.call_later(screen._stop_sent, "train-1", set(), "It runs on another computer.")
        await settled(pilot)
        assert notices(pilot) == ["✗ Not stopped: It runs on another computer."]


async def test_keys_do_not_wait_for_a_focus_that_a_dialog_does_not_get(home: Path, monkeypatch: pytest.MonkeyPatch):
    """It has none while the terminal says that it is not looked at."""
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        await pilot.press("f1")
        await settled(pilot)
        monkeypatch.setattr(keystrokes, "_LOOK_SECONDS", 3600.0)
        monkeypatch.setattr(keystrokes, "_LONGEST_SECONDS", 3600.0)
        pilot.app.screen.set_focus(None)
        burst(pilot.app, [*"zzz", "escape"])  # type: ignore[arg-type]
        await processed(pilot.app)  # type: ignore[arg-type]
        assert [type(screen) for screen in pilot.app.screen_stack] == [ExperimentsScreen]


async def test_a_screen_does_not_go_on_building_in_an_app_whose_terminal_went_away(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    async with BitnetApp(home).run_test() as pilot:
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, BaseScreen)
        with monkeypatch.context() as ended:
            ended.setattr(BitnetApp, "is_running", False)  # Textual's shutdown, which nobody asked the app for
            ended.setattr(screen, "furnish", lambda: pytest.fail("built on"))
            ended.setattr(screen, "begin", lambda: pytest.fail("begun"))
            await screen._furnish()
