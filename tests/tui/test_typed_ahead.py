"""Keys and clicks that come before the screen they are meant for is there, and where they act."""

import asyncio
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from bitnet_core.runs.experiment import Workspace
from bitnet_tui import keystrokes
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from bitnet_tui.screens.help import HelpScreen
from bitnet_tui.screens.keys import KeysScreen
from bitnet_tui.screens.welcome import WelcomeScreen
from bitnet_tui.view.watch import ExperimentView, ExperimentWatcher
from bitnet_tui.view.workspace import ExperimentRow, WorkspaceWatcher
from bitnet_tui.widgets.table import Table
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import burst, processed, settled, shown, until
from tests.tui.simulated import experiment, finished_experiment, leave_traces


@pytest.mark.parametrize(
    ("key", "wanted"),
    [("enter", [ExperimentsScreen, ExperimentScreen]), ("n", [ExperimentsScreen, NewExperimentScreen])],
)
async def test_two_presses_in_a_burst_open_one_screen(home: Path, key: str, wanted: list[type]):
    finished_experiment(home)
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        burst(pilot.app, [key, key])  # type: ignore[arg-type]
        await settled(pilot)
        assert [type(screen) for screen in pilot.app.screen_stack] == wanted


@pytest.fixture
def patient_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key waits for the one before it however busy the machine is."""
    monkeypatch.setattr(keystrokes, "_LONGEST_SECONDS", 60.0)


@pytest.mark.parametrize(
    ("keys", "field", "text"),
    [
        (["slash", *"qa"], "#filter", "qa"),
        (["slash", *"kd", "enter", "a"], "#filter", "kd"),
        (["r", *"qx"], "#name", "qx"),
        (["a", "enter", *"qn"], "#value", "qn"),
        (["ctrl+p", *"quit"], "Palette Input", "quit"),
    ],
)
@pytest.mark.usefixtures("patient_keys")
async def test_what_is_typed_in_a_burst_goes_where_its_first_key_leads(
    home: Path, keys: list[str], field: str, text: str
):
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        if keys[0] == "a":  # the keys are looked up first
            burst(pilot.app, ["a"])  # type: ignore[arg-type]
            await settled(pilot)
            keys = keys[1:]
        burst(pilot.app, keys)  # type: ignore[arg-type]
        await processed(pilot.app)  # type: ignore[arg-type]
        entry = next(one for screen in pilot.app.screen_stack for one in screen.query(field))
        assert isinstance(entry, Input) and entry.value == text
        assert isinstance(pilot.app.screen, KeysScreen) == ("enter" in keys and keys[-1] == "a")


@pytest.mark.usefixtures("patient_keys")
async def test_what_is_typed_in_a_burst_reaches_the_fields_of_tabs(home: Path):
    exp = finished_experiment(home, "kd")
    leave_traces(exp)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)

        def holds(field: str) -> bool:
            return [one.value for one in pilot.app.screen.query(field).results(Input)] == ["qa"]

        await pilot.press("4", "5")  # from a list to a tab without one
        await settled(pilot)
        assert pilot.app.screen.query_one("#stages").has_focus
        for keys, field in (("6/qa", "#config-filter"), ("/qa", "#log-search"), ("2/qa", "#trace-search")):
            assert not pilot.app.screen.query(field), "what is in a tab is made when it is first opened"
            if keys[0] == "/":
                tab = pilot.app.screen.query_one("#tab-log").region
                for kind in (events.MouseDown, events.MouseUp):
                    pilot.app.post_message(kind(None, tab.x + 1, tab.y, 0, 0, 1, False, False, False))
            burst(pilot.app, ["slash" if key == "/" else key for key in keys])  # type: ignore[arg-type]
            await until(pilot, partial(holds, field))
            await pilot.press("escape")
            await settled(pilot)


@pytest.mark.usefixtures("patient_keys")
async def test_a_click_waits_for_what_was_typed_before_it(home: Path):
    """Else it takes the focus, and the rest of the text goes to what was clicked."""
    finished_experiment(home, "kd")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        burst(pilot.app, ["slash", *"kd"])  # type: ignore[arg-type]
        place = pilot.app.screen.query_one(Table).region
        for kind in (events.MouseDown, events.MouseUp):
            pilot.app.post_message(kind(None, place.x + 5, place.y + 4, 0, 0, 1, False, False, False))
        await processed(pilot.app)  # type: ignore[arg-type]
        assert pilot.app.screen.query_one("#filter", Input).value == "kd"
        assert not isinstance(pilot.app.focused, Input)


async def test_keys_typed_while_the_list_is_read_act_in_order_once_it_is_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in ("alpha", "beta", "gamma"):
        experiment(home, name)
    hanging, glance = threading.Event(), WorkspaceWatcher.glance

    def glances(watcher: WorkspaceWatcher) -> tuple[ExperimentRow, ...]:
        hanging.wait(60)
        return glance(watcher)

    monkeypatch.setattr(WorkspaceWatcher, "glance", glances)
    monkeypatch.setattr(keystrokes, "_OPENING_SECONDS", 3600.0)
    app = BitnetApp(home, launch=RecordingLaunch())
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "? Help" in shown(pilot))
        burst(app, ["end", "up", "enter"])
        await processed(app)
        assert "✓ done" not in shown(pilot), "what the signs mean depends on what is read"
        hanging.set()
        await until(pilot, lambda: isinstance(app.screen, ExperimentScreen))
        table = app.screen_stack[0].query_one(Table)
        assert app.last_opened is not None and str(app.last_opened) == table.key == table._rows[1].key


async def test_a_key_that_comes_while_the_welcome_is_being_made_is_not_lost(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    made = asyncio.Event()

    async def furnish(_: WelcomeScreen) -> None:
        await made.wait()

    monkeypatch.setattr(WelcomeScreen, "furnish", furnish)
    monkeypatch.setattr(keystrokes, "_OPENING_SECONDS", 3600.0)
    app = BitnetApp(home)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: isinstance(app.screen, WelcomeScreen) and app.screen.is_mounted)
        burst(app, ["n"])
        await asyncio.sleep(0.1)
        made.set()
        await until(pilot, lambda: isinstance(app.screen, NewExperimentScreen))


async def test_a_disk_that_hangs_holds_up_neither_the_list_nor_its_keys(home: Path, monkeypatch: pytest.MonkeyPatch):
    hanging, found = threading.Event(), Workspace.experiments

    def experiments(workspace: Workspace) -> list[Path]:
        hanging.wait(60)
        return found(workspace)

    monkeypatch.setattr(Workspace, "experiments", experiments)
    async with BitnetApp(home).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "bitnet-tui" in shown(pilot))
        assert isinstance(pilot.app.screen, ExperimentsScreen)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))
        await pilot.press("escape")
        hanging.set()
        await until(pilot, lambda: isinstance(pilot.app.screen, WelcomeScreen))


def _press_mouse_on(pilot: Pilot[None], text: str) -> None:
    lines = shown(pilot).split("\n")
    row = next(row for row, line in enumerate(lines) if text in line)
    pilot.app.post_message(events.MouseDown(None, lines[row].index(text), row, 0, 0, 1, False, False, False))


async def test_keys_of_the_whole_app_and_clicks_on_them_do_not_wait_for_an_experiment_whose_disk_hangs(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    finished_experiment(home)
    hanging, look = threading.Event(), ExperimentWatcher.look

    def looks(watcher: ExperimentWatcher, *how: Any) -> ExperimentView:
        hanging.wait(60)
        return look(watcher, *how)

    monkeypatch.setattr(ExperimentWatcher, "look", looks)
    monkeypatch.setattr(keystrokes, "_OPENING_SECONDS", 3600.0)
    app = BitnetApp(home, launch=RecordingLaunch())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        burst(app, ["enter", "question_mark"])
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        burst(app, ["escape"])
        await until(pilot, lambda: isinstance(app.screen, ExperimentScreen))
        await until(pilot, lambda: "   opening…" in shown(pilot))
        burst(app, ["escape"])
        await until(pilot, lambda: isinstance(app.screen, ExperimentsScreen))
        burst(app, ["enter", "3", "question_mark"])  # what waits does not hold it up for long
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        for text, opened in (("? Help", HelpScreen), ("esc Back", ExperimentsScreen)):
            burst(app, ["escape"])
            await until(pilot, lambda: isinstance(app.screen, ExperimentScreen))
            burst(app, ["escape"])  # at Help it would be dropped with Help, and the press with the screen it leaves
            await until(pilot, lambda: isinstance(app.screen, ExperimentsScreen))
            burst(app, ["enter", "3"])
            await until(pilot, lambda: isinstance(app.screen, ExperimentScreen))
            await until(pilot, lambda text=text: text in shown(pilot))
            await processed(app)
            _press_mouse_on(pilot, text)
            await until(pilot, lambda opened=opened: isinstance(app.screen, opened))
        hanging.set()
