"""Keys and messages that arrive before a screen is complete do no harm."""

import asyncio
import random
from collections.abc import Awaitable, Sequence
from pathlib import Path
from unittest import mock

import pytest
from rich.style import Style
from textual import events
from textual.app import App, ComposeResult
from textual.widgets import OptionList

from bitnet_tui.actions import ACTIONS
from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.experiment import ExperimentScreen
from bitnet_tui.screens.experiments import ExperimentsScreen
from bitnet_tui.widgets.lists import Commands, Entries
from bitnet_tui.widgets.table import Table
from bitnet_tui.widgets.words import Words
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import burst, processed, said, settled, until, words
from tests.tui.simulated import NOON, SimulatedRun, experiment, finished_experiment

_OF_THE_LIST = [
    key for one in ACTIONS if one.where in ("list", "app") for key in one.keys.split(",") if "q" not in key
]
_OF_EXPERIMENT = [key for one in ACTIONS if one.where == "experiment" for key in one.keys.split(",")]
_BURSTS = [
    ["enter"],
    ["enter", "enter", "escape"],
    ["enter", "f"],
    ["enter", "1"],
    ["enter", "c", "L", "right_square_bracket"],
    ["enter", *_OF_EXPERIMENT],
    [*_OF_THE_LIST],
    ["n", "ctrl+s"],
    ["n", "ctrl+t", "escape"],
    ["n", "enter", "enter", "ctrl+t", "ctrl+b", "escape"],
    ["n", *["enter"] * 7],
    ["D", "ctrl+n", "ctrl+n", "ctrl+b", "ctrl+n", "tab", "down"],
    ["a", "enter", "enter"],
    ["a", "m", "x"],
    ["ctrl+p", "escape"],
    ["ctrl+p", "r", "enter", "enter"],
]


async def _survives(home: Path, keys: Sequence[str], pauses: random.Random | None = None) -> None:
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=(80, 24)) as pilot:
        for key in keys:
            burst(pilot.app, [key])  # type: ignore[arg-type]
            if pauses:
                await asyncio.sleep(pauses.choice([0, 0, 0.001, 0.01, 0.05]))
        await processed(pilot.app)  # type: ignore[arg-type]


async def _all_survive(cases: dict[str, Awaitable[None]]) -> None:
    """At once: the busier the machine, the longer a screen is incomplete."""
    ends = await asyncio.gather(*cases.values(), return_exceptions=True)
    assert {name: repr(end) for name, end in zip(cases, ends, strict=True) if end is not None} == {}


async def test_keys_in_the_first_moments_do_no_harm(home: Path):
    finished_experiment(home)
    await _all_survive({" ".join(keys): _survives(home, keys) for keys in _BURSTS})


async def test_any_burst_of_keys_does_no_harm(home: Path):
    experiment(home, "mine")
    keys = [*_OF_THE_LIST, *_OF_EXPERIMENT, "ctrl+p", "tab", "down", "y"]
    cases: dict[str, Awaitable[None]] = {}
    for seed in range(6):
        chance = random.Random(seed)
        burst = [chance.choice([*keys, "enter", "escape"]) for _ in range(12)]
        cases[" ".join(burst)] = _survives(home, burst, chance)
    await _all_survive(cases)


_MOVES = ["pagedown", "pageup", "home", "end", "down", "up"]


@pytest.mark.parametrize("size", [(59, 14), (60, 15), (80, 24)])
async def test_a_list_without_lines_takes_every_move(home: Path, size: tuple[int, int]):
    """What a key does in a list whose lines are not laid out yet: nothing."""
    lists: list[OptionList] = [Entries("ab", id="entries"), Commands("ab", id="--commands")]

    class Bare(App[None]):
        def compose(self) -> ComposeResult:
            yield from lists

    async with Bare().run_test(size=size):
        for one in lists:
            one.display = True
            one.clear_options()
            one.add_options(["a", "b"])
            one.highlighted = 1
            for way in ("page_down", "page_up", "first", "last", "cursor_up", "cursor_down"):
                one._line_cache.clear()
                with mock.patch.object(type(one), "_update_lines"):
                    getattr(one, f"action_{way}")()


@pytest.mark.parametrize("entries", [Entries("ab", id="entries"), Commands("ab")])
async def test_a_click_on_an_entry_that_is_gone_does_nothing(entries: OptionList):
    """The list was read again between the click and its handling."""

    class Bare(App[None]):
        def compose(self) -> ComposeResult:
            yield entries

    async with Bare().run_test(size=(80, 24)) as pilot:
        for option, left in ((1, 2), (1, 1), (0, 0)):
            entries.clear_options()
            entries.add_options(["a", "b"][:left])
            entries.highlighted = None
            style = Style(meta={"option": option})
            entries.post_message(events.Click(entries, 1, 1, 0, 0, 1, False, False, False, style=style))
            await pilot.pause()
            assert entries.highlighted == (option if option < left else None)


async def test_leaving_in_the_first_moments_does_no_harm(home: Path):
    """The screen is being furnished when the app ends."""
    app = BitnetApp(home, launch=RecordingLaunch())
    furnish = ExperimentsScreen.furnish

    async def furnish_and_leave(self: ExperimentsScreen) -> None:
        await furnish(self)
        app.exit()
        await self.query_one("#entries").remove()

    with mock.patch.object(ExperimentsScreen, "furnish", furnish_and_leave):
        async with app.run_test(size=(80, 24)) as pilot:
            await pilot.pause()
    assert app._exception is None


@pytest.mark.parametrize("way", ["the list", "the palette", "the form's list", "the keys"])
async def test_a_page_can_be_turned_at_any_moment(home: Path, way: str):
    finished_experiment(home)
    opening = {"the palette": ["ctrl+p"], "the form's list": ["n", "ctrl+n"], "the keys": ["a"]}.get(way, [])
    cases = {}
    for at in range(3):
        turns = [_MOVES[(at + place) % 2] for place in range(12)]
        cases[f"{at}"] = _survives(home, [*opening, *turns], random.Random(at))
    await _all_survive(cases)


@pytest.mark.parametrize("size", [(1, 1), (59, 24), (80, 14)])
async def test_keys_do_nothing_in_a_window_that_is_too_small(home: Path, size: tuple[int, int]):
    finished_experiment(home)
    recorder = RecordingLaunch()
    app = BitnetApp(home, launch=recorder)
    async with app.run_test(size=size) as pilot:
        await settled(pilot)
        for key in (*_MOVES, "enter", "n", "d", "a", "t", "ctrl+p", "escape", "r", "p"):
            await pilot.press(key)
        await settled(pilot)
        assert [type(screen) for screen in app.screen_stack] == [ExperimentsScreen]
        assert not recorder.launched
        await pilot.resize_terminal(80, 24)
        await settled(pilot)
        assert isinstance(app.focused, Table)
        await pilot.press("pagedown", "pageup", "enter")
        await settled(pilot)
        assert isinstance(app.screen, ExperimentScreen)
        await pilot.resize_terminal(*size)
        await settled(pilot)
        await pilot.press("p", "r", "q")
        await settled(pilot)
        assert not recorder.launched
        assert app._exit


async def test_what_a_small_window_hides_stays_as_it_was_drawn(home: Path):
    """Else it would be drawn for so few cells, and seen like that when the window grows again."""
    exp = finished_experiment(home)
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, ExperimentScreen)
        parts = ("#head", "#title", "#figures", "#tail", "#gauge")
        before = [said(pilot, part) for part in parts]
        await pilot.resize_terminal(20, 5)
        await settled(pilot)
        screen.look()
        await settled(pilot)
        assert [said(pilot, part) for part in parts] == before
        SimulatedRun(exp, "eval", NOON + 9000).finish("failed", "It broke.")
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: "It broke." in words(pilot))
        await pilot.press("question_mark")
        await settled(pilot)
        helped = pilot.app.screen.query_one("#help-words", Words)
        told = str(helped.content)
        await pilot.resize_terminal(20, 5)
        await settled(pilot)
        assert str(helped.content) == told


async def test_keys_do_nothing_until_the_stage_they_act_on_is_shown(home: Path):
    exp = finished_experiment(home)
    app = BitnetApp(home, launch=RecordingLaunch())
    async with app.run_test(size=(80, 24)) as pilot:
        await settled(pilot)
        app.open_experiment(exp.root)
        screen = app.screen
        assert isinstance(screen, ExperimentScreen)
        actions = ("launch", "resume", "pipeline", "stop", "follow", "view", "curve", "older", "newer", "move_stage")
        assert [screen.check_action(name, ()) for name in actions] == [None] * len(actions)
        while not screen.complete:
            assert screen.active_bindings, "they are known at each moment of its building"
            await asyncio.sleep(0)
        await settled(pilot)
        assert screen.check_action("launch", ())
        assert screen.check_action("view", ())
        app.go_home()
        await settled(pilot)
        burst(app, ["enter", "3"])
        await until(pilot, lambda: isinstance(app.screen, ExperimentScreen) and app.screen.complete)
        opened = app.screen
        assert isinstance(opened, ExperimentScreen) and opened is not screen
        await until(pilot, lambda: opened.pane.open == "reports")
