"""In a dialog nothing moves under the mouse: not when what fills it has been read, and not when something is said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Button, Input, OptionList

from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.benchmarks import BenchmarksScreen
from bitnet_tui.screens.compare_with import CompareWithScreen
from bitnet_tui.screens.keyed import KeyedScreen
from bitnet_tui.screens.keys import KeysScreen
from bitnet_tui.screens.renaming import RenameScreen
from bitnet_tui.screens.vault import VaultScreen
from tests.tui.pilots import SIZES, settled
from tests.tui.simulated import finished_experiment

_DIALOGS: dict[str, Callable[[Path], Screen[object]]] = {
    "vault": lambda home: VaultScreen(home / "vault.json", "There is no keyring here.", new=True),
    "open vault": lambda home: VaultScreen(home / "vault.json", "It is locked.", new=False),
    "rename": lambda home: RenameScreen(home / "one"),
    "compare": lambda home: CompareWithScreen(home / "one"),
    "benchmarks": lambda home: BenchmarksScreen(home / "one"),
    "keys": lambda home: KeysScreen(home / "one"),
}
_LONG = "This can't be done, as the file that it is about can't be written there: check its permissions, or choose "


def _places(pilot: Pilot[None]) -> dict[str, object]:
    found = pilot.app.screen.query("*")
    return {one.id or "": one.region for one in found if isinstance(one, Button | Input | OptionList)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", _DIALOGS)
async def test_nothing_moves_in_a_dialog(home: Path, name: str, size: tuple[int, int]):
    for one in ("one", "two", "three"):
        finished_experiment(home, one)
    async with BitnetApp(home).run_test(size=size) as pilot:
        await settled(pilot)
        await pilot.app.push_screen(_DIALOGS[name](home))
        await pilot.pause()
        opened = _places(pilot)
        await settled(pilot)
        assert {key: place for key, place in _places(pilot).items() if key in opened} == opened
        if isinstance(pilot.app.screen, KeyedScreen) and name != "keys":  # there the list gives way
            for text in ("Short.", _LONG + "another place.", ""):
                pilot.app.screen.say(text, "bad")
                await pilot.pause()
                assert _places(pilot) == opened
