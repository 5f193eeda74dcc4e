"""How long the app's event loop computes at a stretch: so long, a key waits at least."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitnet_tui.app import BitnetApp
from bitnet_tui.services import keys
from bitnet_tui.view.watch import ExperimentWatcher
from tests.tui.conftest import RecordingLaunch
from tests.tui.loop_time import LongestCallback, reference_seconds, reference_work
from tests.tui.pilots import burst, processed, settled
from tests.tui.simulated import finished_experiment

_MOST = 3.0
"""Pieces of reference work. On a free core one takes 32 ms, and the longest callback here about as long."""
_KEYS = (*"7631", "a", "escape", "V", "escape")
_ROUNDS = 2
"""What is done only once, such as reading a stylesheet, is not in both of them."""


async def test_no_callback_computes_long_while_disk_and_keyring_hang(home: Path, monkeypatch: pytest.MonkeyPatch):
    answers = threading.Event()

    def hanging(call: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: answers.wait(60) and call(*given)

    exp, longest, took = finished_experiment(home), LongestCallback(), []
    async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        monkeypatch.setattr(ExperimentWatcher, "look", hanging(ExperimentWatcher.look))
        monkeypatch.setattr(keys, "inventory", hanging(keys.inventory))
        try:
            with longest.watching():
                for _ in range(_ROUNDS):
                    for key in _KEYS:
                        burst(pilot.app, [key])
                        await processed(pilot.app)
                    took.append(longest.take() / 1000 / reference_seconds())
        finally:
            answers.set()
    assert 0 < min(took) < _MOST, longest.where


async def test_a_callback_that_computes_long_is_found():
    longest = LongestCallback()
    with longest.watching():
        asyncio.get_running_loop().call_soon(lambda: [reference_work() for _ in range(6)])
        await asyncio.sleep(0.05)
    assert longest.seconds > _MOST * reference_seconds()
