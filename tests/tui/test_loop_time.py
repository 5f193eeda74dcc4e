"""How long the app's event loop computes at a stretch: so long, a key waits at least."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tui.loop_time import LongestCallback, reference_seconds, reference_work
from tests.tui.simulated import finished_experiment

_MOST = 50 / 32
"""Pieces of reference work, one of which takes 32 ms on a free core: no callback takes longer than 50 ms there."""
_ROUNDS = 3
"""At most so many: another load may lengthen one."""


def test_nothing_computes_long_while_modules_are_new_and_provider_keyring_and_disk_hang(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("BITNET_KEYRING", "auto")
    finished_experiment(home)
    for _ in range(_ROUNDS):
        took, where = _walk(home)
        if took < _MOST:
            break
    assert 0 < took < _MOST, where


def _walk(home: Path) -> tuple[float, str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "tests.tui.loop_walk", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    took, where = json.loads(done.stdout.splitlines()[-1])
    return took, where


async def test_a_callback_that_computes_long_is_found():
    longest = LongestCallback()
    with longest.watching():
        asyncio.get_running_loop().call_soon(lambda: [reference_work() for _ in range(4)])
        await asyncio.sleep(0.05)
    assert longest.seconds > _MOST * reference_seconds()
