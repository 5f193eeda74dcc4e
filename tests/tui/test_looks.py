"""On every screen, at every size, all can be read and reached, and nothing lies on anything else."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList

from bitnet_tui.key_names import shown
from bitnet_tui.screens.base import TOO_SMALL
from bitnet_tui.screens.help import HelpScreen
from bitnet_tui.screens.palette import Palette
from bitnet_tui.widgets.words import Words
from tests.tui.every_screen import SCREENS, app_of, go
from tests.tui.laid_out import faults
from tests.tui.pilots import settled, words

_SIZES = [(80, 24), (100, 30), (120, 36), (200, 55)]
_TOO_SMALL = [(59, 24), (80, 14)]


@pytest.mark.parametrize("name", SCREENS)
async def test_everything_on_a_screen_can_be_read_and_reached(workspaces: Path, name: str):
    way = SCREENS[name]
    async with app_of(workspaces, way).run_test(size=_SIZES[0]) as pilot:
        await go(pilot, way)
        found = {}
        for size in _SIZES:
            await pilot.resize_terminal(*size)
            await settled(pilot)
            found[size] = faults(pilot.app.screen)
        assert found == {size: [] for size in _SIZES}
        for size in _TOO_SMALL:
            await pilot.resize_terminal(*size)
            await settled(pilot)
            assert words(pilot) == " ".join(TOO_SMALL.split())


_NAMES_A_KEY = re.compile(r"\((\S+)\)$")


@pytest.mark.parametrize("name", SCREENS)
async def test_a_button_that_names_a_key_answers_to_it(workspaces: Path, name: str):
    way = SCREENS[name]
    async with app_of(workspaces, way).run_test(size=(200, 55)) as pilot:
        await go(pilot, way)
        screen = pilot.app.screen
        if isinstance(screen.focused, Input):
            return  # what is typed goes there
        works = {shown(key): one for key, one in screen.active_bindings.items() if one.enabled}
        named = {
            str(one.name).removeprefix("app."): found[1]
            for one in screen.query(Button)
            if one.region and not one.disabled and (found := _NAMES_A_KEY.search(str(one.label)))
        }
        answered = {
            action: works[key].binding.action.removeprefix("app.") for action, key in named.items() if key in works
        }
        assert answered == {action: action for action in named}
        assert named or name != "what was exported"


@pytest.mark.parametrize("name", SCREENS)
async def test_help_and_the_palette_open_everywhere_and_lead_back(workspaces: Path, name: str):
    way = SCREENS[name]
    if name == "palette":
        return
    async with app_of(workspaces, way).run_test(size=(80, 24)) as pilot:
        await go(pilot, way)
        screens, focused = list(pilot.app.screen_stack), pilot.app.focused
        if not isinstance(pilot.app.screen, HelpScreen):
            await pilot.press("f1")
            await settled(pilot)
            assert isinstance(pilot.app.screen, HelpScreen)
            await pilot.press("f1")
            await settled(pilot)
        assert pilot.app.screen_stack == screens
        await pilot.press("ctrl+p")
        await settled(pilot)
        assert isinstance(pilot.app.screen, Palette)
        await pilot.press("escape")
        await settled(pilot)
        if name != "help over a silent run":
            assert pilot.app.screen_stack == screens
            assert pilot.app.focused is focused


@pytest.mark.parametrize("name", SCREENS)
async def test_a_window_that_is_too_small_for_a_while_changes_nothing(workspaces: Path, name: str):
    way = SCREENS[name]
    async with app_of(workspaces, way).run_test(size=(80, 24)) as pilot:
        await go(pilot, way)
        await pilot.press("end")
        await settled(pilot)
        screens, focused, before = list(pilot.app.screen_stack), pilot.app.focused, _scrolled(pilot.app)
        assert focused is not None
        for size in ((59, 24), (3, 40)):
            await pilot.resize_terminal(*size)
            await settled(pilot)
            await pilot.press("x", "y", "enter", "escape", "down", "home")
            await pilot.resize_terminal(80, 24)
            await settled(pilot)
            assert pilot.app.focused is focused, size
            assert _scrolled(pilot.app) == before, size
        await pilot.resize_terminal(60, 15)
        await settled(pilot)
        assert pilot.app.focused is focused
        assert pilot.app.screen_stack == screens


def _scrolled(app: App[None]) -> list[int]:
    """How far down each part of the screen is scrolled."""
    return [one.scroll_offset.y for one in app.screen.query("*")]


class _Planted(App[None]):
    CSS = """
    .low { height: 1; }
    .tight { width: 4; min-width: 0; text-wrap: nowrap; text-overflow: clip; }
    .far { offset: 200 0; }
    .over { offset: 0 -1; }
    .still { height: 2; overflow: hidden; }
    .read { height: 2; overflow-y: auto; }
    """

    def __init__(self, *parts: Widget) -> None:
        super().__init__()
        self._parts = parts

    def compose(self) -> ComposeResult:
        yield from self._parts


_WORDS = "first line\nsecond line\nthird line"


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        (lambda: Words(_WORDS), ""),
        (lambda: Words(_WORDS, classes="low"), "shows 1 of 3 lines"),
        (lambda: Words("title", classes="tight"), "ends after 4 cells"),
        (lambda: Words("title", classes="far"), "is beside"),
        (lambda: Vertical(Words("one"), Words("two", classes="over")), "are on each other"),
        (lambda: Vertical(Words(_WORDS), classes="read"), ""),
        (lambda: Vertical(Words(_WORDS), Button("Go"), classes="still"), "is above or below"),
        (lambda: Horizontal(Input(), Button("Go")), "is beside"),
        (lambda: Input(placeholder="what to search for", classes="tight", compact=True), "of 'what to search for'"),
        (lambda: OptionList("a long name", classes="tight", compact=True), "of 'a long name'"),
        (lambda: Button("Save", classes="tight", compact=True), "of 'Save'"),
        (lambda: Vertical(*(Words(_WORDS) for _ in range(9))), "is above or below"),
    ],
)
async def test_a_planted_fault_is_found(part: Callable[[], Widget], fault: str):
    async with _Planted(part()).run_test(size=(40, 12)) as pilot:
        await pilot.pause()
        found = faults(pilot.app.screen)
        assert any(fault in one for one in found) if fault else found == []
