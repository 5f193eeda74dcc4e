"""On every screen, at every size, all can be read and reached, no word is cut, and nothing is redrawn.

Each screen is opened once for all that its looks are asked: to open one takes longer than to ask.
"""

import getpass
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.command import CommandList
from textual.containers import Horizontal, Vertical
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Button, Input, OptionList

from bitnet_tui.driver import in_cells
from bitnet_tui.key_names import shown
from bitnet_tui.screens.base import TOO_SMALL
from bitnet_tui.screens.help import HelpScreen
from bitnet_tui.screens.palette import Palette
from bitnet_tui.themes import TERMINAL, THEMES
from bitnet_tui.widgets.words import Words
from tests.tui.contrast import TERMINALS, drawn
from tests.tui.every_screen import SCREENS, app_of, by_keys, go, names_of_all
from tests.tui.laid_out import cut_words, faults
from tests.tui.pilots import settled, until, words
from tests.tui.pilots import shown as text_of
from tests.tui.quiet import is_quiet

_SIZES = [(80, 24), (100, 30), (120, 36), (200, 55)]
_TOO_SMALL = [(59, 24), (80, 14)]
_OF_EACH_KIND = {
    "list",
    "experiment with a silent run",
    "log of a silent run",
    "traces of a silent run",
    "a setting being changed",
    "a comparison with a silent run",
    "playground",
    "its teacher",
    "its review",
    "keys over a silent run",
    "a key to type",
    "help over a silent run",
    "settings of the app",
    "stop a silent run",
    "fetching",
    "palette",
}
"""Screens, tabs, forms and dialogs that hold the focus in a way of their own."""
_FULL = {
    "welcome",
    "list",
    "experiment without a run",
    "experiment with a finished run",
    "a setting being changed",
    "a comparison with a silent run",
    "what to compare with",
    "a new name",
    "its teacher",
    "fetching",
    "keys over a silent run",
    "settings of the app",
    "themes over a silent run",
    "palette",
    "playground",
    "vault",
}
"""Those on which every kind of text is drawn."""
_WHOLE_AT_THE_LEAST = {
    "what was exported",
    "a launch that was refused",
    "benchmarks",
    "settings of the app",
    "themes over a silent run",
    "experiment with a silent run",
    "a setting being changed",
    "its storage",
    "fetching",
    "a target for an experiment",
}
"""Those of which everything is in sight, or scrolls, in the smallest window."""
_LEAST_CONTRAST = 4.5
_LEAST_IN_GREYS = 3.0
"""With NO_COLOR."""
_LEAST_IN_16 = 1.6
"""Yellow on white has 1.7 in xterm, and green on cyan 1.3."""
_LEAST_ON_GREY = 3.9
"""Of buttons, fields and the palette. Their ground is bright black, on which unnamed text may have only 2.8."""
_THEMES = [theme.name for theme, _ in THEMES.values() if not theme.ansi]
"""Those with colours of their own. The colours of the theme `bitnet-terminal` are the terminal's."""
_NAMES_A_KEY = re.compile(r"^([!-~]+) [A-Z]")


def test_every_screen_is_visited():
    assert names_of_all() <= {way.screen for way in SCREENS.values()}
    assert SCREENS.keys() >= _OF_EACH_KIND | _FULL


@pytest.mark.parametrize("name", SCREENS)
async def test_everything_on_a_screen_can_be_read_and_reached(workspaces: Path, name: str):
    way = SCREENS[name]
    brought = f"France EPYC {workspaces} {getpass.getuser()} {socket.gethostname()}"
    async with app_of(workspaces, way).run_test(size=_SIZES[0]) as pilot:
        await go(pilot, way)
        assert type(pilot.app.screen).__name__ == way.screen
        await until(pilot, lambda: way.text in text_of(pilot))
        if not by_keys(way):  # the others: test_idle.py
            await is_quiet(pilot, way.text)
        found = {}
        for size in _SIZES:
            await pilot.resize_terminal(*size)
            await settled(pilot)
            found[size] = [*faults(pilot.app.screen), *cut_words(pilot.app.screen, brought)]
            assert _without_a_plain_sign(pilot) == ""
            if size == (120, 36) and name in _FULL:
                await _stands_out(pilot)
        assert found == {size: [] for size in _SIZES}
        if not isinstance(pilot.app.focused, Input):  # what is typed goes there
            named = _named_keys(pilot.app.screen)
            assert {action: does for action, (_, does) in named.items()} == {action: action for action in named}
            assert named or name != "what was exported"
        if name in _WHOLE_AT_THE_LEAST:
            await pilot.resize_terminal(60, 15)
            await settled(pilot)
            assert faults(pilot.app.screen) == []
        for size in _TOO_SMALL:
            await pilot.resize_terminal(*size)
            await settled(pilot)
            assert words(pilot) == " ".join(TOO_SMALL.split())
        if name in _OF_EACH_KIND:
            await pilot.resize_terminal(80, 24)
            await settled(pilot)
            await _bears_a_small_window(pilot)
            if name != "palette":
                await _leads_back(pilot, over_help=name == "help over a silent run")


def _without_a_plain_sign(pilot: Pilot[None]) -> str:
    """The signs on the screen that a terminal without Unicode can't show, and nothing shows in their place."""
    return "".join(sign for sign in sorted({*text_of(pilot)} - {"?"}) if in_cells(sign, "ascii") == "?")


async def _stands_out(pilot: Pilot[None]) -> None:
    """In each theme, text stands out from the ground under it, as it is drawn. In 16 colours it stands out less."""
    for theme in _THEMES:
        pilot.app.theme = theme
        await settled(pilot)
        said = [one for one in drawn(pilot.app.screen) if any(map(str.isalnum, one.text))]
        assert said
        for coloured, least in ((True, _LEAST_CONTRAST), (False, _LEAST_IN_GREYS)):
            found = [(one.text, round(one.contrast(coloured=coloured), 2)) for one in said]
            assert not [(theme, coloured, text, contrast) for text, contrast in found if contrast < least]
    pilot.app.theme = TERMINAL.name
    await settled(pilot)
    said = list(drawn(pilot.app.screen))
    for terminal in TERMINALS:
        for one in said:
            on_grey = isinstance(one.widget, Button | CommandList | Input)
            assert one.contrast(terminal) >= (_LEAST_ON_GREY if on_grey else _LEAST_IN_16), (terminal, one.text)


def _named_keys(screen: Screen[Any]) -> dict[str, tuple[str, str]]:
    """Of each button that names a key: its action, the key, and the action that the key has."""
    works = {
        shown(key): one.binding.action.removeprefix("app.")
        for key, one in screen.active_bindings.items()
        if one.enabled
    }
    return {
        str(one.name).removeprefix("app."): (found[1], works.get(found[1], ""))
        for one in screen.query(Button)
        if one.region and not one.disabled and (found := _NAMES_A_KEY.search(str(one.label)))
    }


async def _leads_back(pilot: Pilot[None], *, over_help: bool) -> None:
    """Help and the palette do, when they are closed."""
    screens, focused = list(pilot.app.screen_stack), pilot.app.focused
    if not _shows(pilot, HelpScreen):
        await pilot.press("f1")
        await settled(pilot)
        assert _shows(pilot, HelpScreen)
        await pilot.press("f1")
        await settled(pilot)
    assert pilot.app.screen_stack == screens
    await pilot.press("ctrl+p")
    await settled(pilot)
    assert _shows(pilot, Palette)
    await pilot.press("escape")
    await settled(pilot)
    if not over_help:
        assert pilot.app.screen_stack == screens
        assert pilot.app.focused is focused


async def _bears_a_small_window(pilot: Pilot[None]) -> None:
    """A window that is too small for a while changes nothing, whatever is typed into it."""
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
    await pilot.resize_terminal(80, 24)
    await settled(pilot)


def _shows(pilot: Pilot[None], kind: type[Screen[Any]]) -> bool:
    return isinstance(pilot.app.screen, kind)


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
        (lambda: Words("experime", classes="read"), "'experime' in"),
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
        found = [*faults(pilot.app.screen), *cut_words(pilot.app.screen, "")]
        assert any(fault in one for one in found) if fault else found == []
