"""How long the app's event loop computes at a stretch: so long, a key waits at least."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from bitnet_tui.app import BitnetApp
from bitnet_tui.screens.guide.screen import NewExperimentScreen
from tests.tui.conftest import RecordingLaunch
from tests.tui.event_loop import hanging
from tests.tui.guides import choose
from tests.tui.loop_time import LongestCallback, reference_seconds, reference_work
from tests.tui.pilots import burst, processed, settled
from tests.tui.simulated import finished_experiment

_MOST = 3.0
"""Pieces of reference work. On a free core one takes 32 ms, and the longest callback here about as long."""
_AROUND = (*"7631", "a", "escape", "V", "escape")
_TESTED = ("ctrl+t", "escape", "escape")
"""They test the guide's teacher, end that and leave the guide."""
_ROUNDS = 3
"""At most so many: another load may lengthen one."""


async def test_no_callback_computes_long_while_provider_keyring_and_disk_hang(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BITNET_KEYRING", "auto")
    root, longest = finished_experiment(home).root, LongestCallback()
    took = _MOST
    for _ in range(_ROUNDS):
        if took >= _MOST:
            await _look_around(BitnetApp(home, root, launch=RecordingLaunch()), longest)
            took = longest.take() / 1000 / reference_seconds()
    assert 0 < took < _MOST, longest.where


async def _look_around(app: BitnetApp, longest: LongestCallback) -> None:
    """First while all answer, so that there is something to draw, and then while none does."""

    async def press(*keys: str) -> None:
        for key in keys:
            burst(app, [key])
            await processed(app)

    async with app.run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        with longest.watching():
            await press(*_AROUND)
            app.new_experiment()
            await settled(pilot)
            await cast(NewExperimentScreen, app.screen)._come_to("teacher")
            await choose(pilot, "ollama")
            with hanging(app.home.parent):
                await press(*_TESTED, *_AROUND)
                assert app.workers, "none hangs"


async def test_a_callback_that_computes_long_is_found():
    longest = LongestCallback()
    with longest.watching():
        asyncio.get_running_loop().call_soon(lambda: [reference_work() for _ in range(6)])
        await asyncio.sleep(0.05)
    assert longest.seconds > _MOST * reference_seconds()
