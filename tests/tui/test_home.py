"""The table of experiments as it is used, by keys and by the mouse at the cell that shows the thing."""

import os
import re
import threading
import time
from pathlib import Path

import pytest
from textual.events import MouseMove
from textual.pilot import Pilot
from textual.widgets import Button, Input

from bitnet_core.cli.main import main
from bitnet_core.runs.experiment import Experiment
from bitnet_tui import noticing
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.compare import CompareScreen
from bitnet_tui.screens.confirm import ConfirmScreen
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.screens.guide.fetch import FetchScreen
from bitnet_tui.screens.message import MessageScreen
from bitnet_tui.screens.renaming import RenameScreen
from bitnet_tui.services import managing, preferences
from bitnet_tui.services.drafts import Kept
from bitnet_tui.widgets.table import Table
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import click_on, notices, settled, shown, until, words
from tests.tui.simulated import SimulatedRun, experiment, finished_experiment


def _names(pilot: Pilot[None]) -> list[str]:
    """The experiments in the order of the table."""
    screen = pilot.app.screen
    assert isinstance(screen, ExperimentsScreen)
    return [row.name for row in screen._shown]


async def _until(pilot: Pilot[None], text: str) -> None:
    """A command in a process of its own takes its time."""
    await until(pilot, lambda: text in words(pilot) or any(text in notice for notice in notices(pilot)))
    await settled(pilot)


async def test_sort_filter_mark_and_compare(home: Path):
    for name, env in (("beta", "MINI_PRESET=mini\n"), ("alpha", ""), ("gamma", "")):
        exp = finished_experiment(home, name)
        (exp.root / ".env").write_text((exp.root / ".env").read_text() + env)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        await click_on(pilot, "name ")
        assert _names(pilot) == ["alpha", "beta", "gamma"]
        await pilot.press("O")
        assert _names(pilot) == ["gamma", "beta", "alpha"]
        await pilot.press("slash", *"mi")
        await settled(pilot)
        assert _names(pilot) == ["beta"]
        await pilot.press(*"x")
        await settled(pilot)
        assert "No experiment has 'mix' in its name" in shown(pilot)
        await pilot.press("escape")
        assert _names(pilot) == ["gamma", "beta", "alpha"]
        await click_on(pilot, "○ alpha")
        await pilot.press("home", "space")  # above the one that was marked before it
        await settled(pilot)
        assert "3 experiments, 2 marked" in shown(pilot)
        assert shown(pilot).count("●") == 2
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentsScreen)
        assert screen.marked == (home / "alpha", home / "gamma")
        await click_on(pilot, "Compare")
        assert isinstance(pilot.app.screen, CompareScreen)
        await pilot.press("escape")
        await settled(pilot)
        await pilot.press("escape", "V")
        await settled(pilot)
        assert "Compare gamma with…" in shown(pilot)  # the highlighted one alone
        for there in ("○ alpha", "● alpha", "○ beta", "○ alpha", "● beta"):  # a mark is turned, as in the table
            await click_on(pilot, there, last=True)  # not in the table behind the dialog
            assert there.translate({ord("○"): "●", ord("●"): "○"}) in shown(pilot)
        await pilot.click("#compare")
        await settled(pilot)
        assert isinstance(pilot.app.screen, CompareScreen)
        assert "A gamma B alpha" in words(pilot)
        await pilot.press("escape")
        await settled(pilot)
        for name in ("beta", "alpha", "beta", "alpha"):  # wherever the cursor was, one click only puts it there
            await click_on(pilot, name)
            assert isinstance(pilot.app.screen, ExperimentsScreen)
        await pilot.press("down", "up")
        for screen in (ExperimentsScreen, ExperimentScreen):
            await click_on(pilot, "alpha")
            assert isinstance(pilot.app.screen, screen)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        assert _names(pilot) == ["gamma", "beta", "alpha"]
        assert "student" not in shown(pilot)


async def test_marks_stay_where_they_were_made_until_escape(home: Path, monkeypatch: pytest.MonkeyPatch):
    """The cursor stays on what it marks, also after a comparison. Without marks, deleting is about one again."""
    for name in ("A", "LR", "Z"):  # one has the name of a setting
        finished_experiment(home, name)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36), notifications=True) as pilot:
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentsScreen)
        await click_on(pilot, "name ")
        await pilot.press("home", "space", "down", "down", "space")
        assert screen.marked == (home / "A", home / "Z")
        assert "A archive 2 marked x delete 2 marked" in words(pilot)
        await click_on(pilot, "x delete")
        await _until(pilot, "Delete the 2 marked experiments?")
        await pilot.press("escape", "c")
        await settled(pilot)
        assert isinstance(pilot.app.screen, CompareScreen)
        await pilot.press("escape")
        await settled(pilot)
        assert set(notices(pilot)) <= {"Nothing was deleted."}
        assert screen.marked == (home / "A", home / "Z")  # one wrong mark can be turned, and the rest compared again
        await pilot.press("escape")
        assert screen.marked == ()
        assert "marked" not in shown(pilot)
        await pilot.press("up", "x")
        await _until(pilot, "Delete LR?")
        assert "Learning rate" not in words(pilot)
        found, change = threading.Event(), managing.change
        monkeypatch.setattr(managing, "change", lambda *given: (found.wait(60), change(*given))[1])
        await pilot.press("escape", "x", "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        found.set()
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentScreen), "a late question lies over it"


@pytest.mark.parametrize("hand", ["key", "mouse"])
async def test_rows_keep_their_places_while_a_hand_is_on_them(home: Path, hand: str, monkeypatch: pytest.MonkeyPatch):
    """What begins to run comes first only when neither key nor mouse was used for a while."""
    now = [1e9]
    monkeypatch.setattr(noticing, "monotonic", lambda: now[0])
    for name in ("a", "b"):
        experiment(home, name)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentsScreen)
        first, last = _names(pilot)
        await pilot.press("end")
        now[0] += 60
        if hand == "key":
            await pilot.press("space")
        else:
            pilot.app.post_message(MouseMove(None, 9, 3, 1, 0, 0, False, False, False))
            await settled(pilot)
        live = SimulatedRun(Experiment.open(home / last), "train", alive=True)
        try:
            await until(pilot, lambda: "1 running" in shown(pilot))
            assert _names(pilot) == [first, last]
            now[0] += 60
            screen.look()
            await settled(pilot)
            assert _names(pilot) == [last, first]
            table = screen.query_one(Table)
            assert table.key == str(home / last)
            await click_on(pilot, "name ")  # asked for, so at once
            assert _names(pilot) == ["a", "b"]
        finally:
            live.end_process()


async def test_rows_are_in_order_for_one_who_comes_back_until_a_hand_is_on_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    now = [1e9]
    monkeypatch.setattr(noticing, "monotonic", lambda: now[0])
    for name, seconds in (("a", 100), ("b", 200)):
        os.utime(experiment(home, name).root, (time.time() - seconds,) * 2)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentsScreen)
        assert _names(pilot) == ["a", "b"]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        await pilot.press("escape")
        await until(pilot, lambda: pilot.app.screen is screen)
        await settled(pilot)
        os.utime(home / "b")  # is read only after the table was shown
        now[0] += 30
        screen.look()
        await settled(pilot)
        assert _names(pilot) == ["b", "a"]
        await pilot.press("down")
        os.utime(home / "a", (time.time() + 10,) * 2)
        screen.look()
        await settled(pilot)
        assert _names(pilot) == ["b", "a"]


def _stored(home: Path, isolated: Path) -> Experiment:
    """The experiment `one`, with a copy in the folder `copies`."""
    (isolated / "copies").mkdir()
    exp = finished_experiment(home, "one")
    with (exp.root / ".env").open("a") as env:
        env.write(f"STORAGE_LOCAL_DIR={isolated / 'copies'}\n")
    assert main(["--root", str(exp.root), "store", "push"]) == 0
    return exp


async def test_rename_archive_delete_and_fetch(home: Path, isolated: Path):
    """Real commands. What runs is refused; what was deleted comes back from its copy."""
    exp = _stored(home, isolated)
    live = SimulatedRun(experiment(home, "live"), "train", alive=True)
    Kept(home, exp.root).write({"draft": 1}, 1)
    try:
        async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(120, 36), notifications=True) as pilot:
            await settled(pilot)
            for change in ("r", "A", "x"):  # before anything is typed or looked at
                await pilot.press(change)
                assert isinstance(pilot.app.screen, MessageScreen)
                assert "is running in live" in shown(pilot)
                await pilot.press("escape")
            await click_on(pilot, "one ")
            await pilot.press("r")
            assert isinstance(pilot.app.screen, RenameScreen)
            await pilot.press("ctrl+u", *"live", "enter")
            await _until(pilot, "exists already")
            assert isinstance(pilot.app.screen, RenameScreen)
            assert pilot.app.screen.query_one("#name", Input).value == "live"  # to be corrected
            await click_on(pilot, "Cancel")
            await click_on(pilot, "rename")
            pilot.app.screen.query_one("#name", Input).value = "two"
            await click_on(pilot, "Rename ", last=True)
            await _until(pilot, "stays one (“Name at the target” in its .env).")
            assert Kept(home, home / "two").read() == {"draft": 1}
            await _until(pilot, "○ two")
            await click_on(pilot, "A archive")
            await _until(pilot, "Archived two. H shows archived experiments; A restores one.")
            await _until(pilot, "1 archived")
            assert _names(pilot) == ["live"]
            await pilot.press("H")
            await settled(pilot)
            assert "▌○ two (archived)" in shown(pilot)
            await pilot.press("A")
            await _until(pilot, "Restored two from the archive.")
            await _until(pilot, "2 experiments, 1 running")
            await _until(pilot, "○ two ··")
            await pilot.press("x")
            await _until(pilot, "Delete two?")
            assert isinstance(pilot.app.screen, ConfirmScreen)
            assert isinstance(pilot.app.focused, Button)
            assert str(pilot.app.focused.label) == "Cancel"
            told = pilot.app.screen._texts[1]  # notices may lie over it
            assert re.search(r"its copy, made (just now|\d+ min ago), stays at", told)
            await pilot.press("y", "y")
            await settled(pilot)
            assert isinstance(pilot.app.screen, ConfirmScreen) and (home / "two").exists()
            assert str(pilot.app.focused.label).startswith("Delete")
            await pilot.press("enter")
            await _until(pilot, "1 experiment, 1 running")
            assert not (home / "two").exists()
            await settled(pilot)
            await pilot.press("U")
            await settled(pilot)
            form = pilot.app.screen
            assert isinstance(form, FetchScreen)
            form.query_one("#there", Input).value = "none"
            form.query_one("#field-STORAGE_LOCAL_DIR", Input).value = str(isolated / "copies")
            await click_on(pilot, "Test ", last=True)
            await _until(pilot, "written, read, listed")
            await click_on(pilot, "Fetch  ", last=True)
            await _until(pilot, "✗ ")
            assert isinstance(pilot.app.screen, FetchScreen)
            form.query_one("#there", Input).value = "one"
            form.query_one("#here", Input).value = "three"
            await click_on(pilot, "Fetch  ", last=True)
            await _until(pilot, "○ three")
            assert (home / "three" / "logs").is_dir()
    finally:
        live.end_process()


async def test_the_ways_to_begin_are_reached_in_a_small_window(home: Path):
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(60, 15)) as pilot:
        await settled(pilot)
        await pilot.press("down", "down")
        await settled(pilot)
        assert "Fetch a stored experiment" in shown(pilot)


async def test_a_machine_without_experiments_can_fetch_one(
    home: Path, isolated: Path, monkeypatch: pytest.MonkeyPatch
):
    _stored(home, isolated)
    (isolated / "elsewhere").mkdir()
    app = BitnetApp(isolated / "elsewhere", launch=RecordingLaunch())
    fetch, works = managing.Fetch.run, []

    def fetched(one: managing.Fetch):
        works.extend(work.what for work in app.works)
        return fetch(one)

    monkeypatch.setattr(managing.Fetch, "run", fetched)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await settled(pilot)
        await click_on(pilot, "Fetch a stored experiment")
        assert isinstance(pilot.app.screen, FetchScreen)
        pilot.app.screen.query_one("#field-STORAGE_LOCAL_DIR", Input).value = str(isolated / "copies")
        await click_on(pilot, "Fetch  ", last=True)
        await until(pilot, lambda: isinstance(pilot.app.screen, ExperimentScreen))
        assert (isolated / "elsewhere" / "one" / "logs").is_dir()
        assert works == ["an experiment is being fetched"] and not app.works
        await settled(pilot)
        await pilot.press("5")
        await _until(pilot, "Up to date")
        await pilot.press("escape")
        await settled(pilot)
        assert isinstance(pilot.app.screen, ExperimentsScreen)
        await pilot.press("U")
        # Of a long path only the beginning is shown.
        offered = pilot.app.screen.query("#field-STORAGE_LOCAL_DIR").results
        await until(pilot, lambda: [one.value for one in offered(Input)] == [str(isolated / "copies")])
    assert preferences.read().target == {"STORAGE_BACKEND": "local", "STORAGE_LOCAL_DIR": str(isolated / "copies")}
