"""What a machine does while a run is active: its processors, memory and GPUs."""

from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from bitnet_core.runs.around import Gpu, Load, LoadReader
from bitnet_core.runs.health import UNKNOWN_MACHINE, Machine

_Times = namedtuple("_Times", "user system idle iowait guest")
_AROUND = Machine(2e9, 8e9, 5e9)


def _smi(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_the_share_of_the_processors_is_that_since_the_last_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for a disk is idle, and what a guest uses counts once."""
    at, times = [0.0], [_Times(10, 0, 10, 0, 5)]
    monkeypatch.setattr(psutil, "cpu_times", lambda: times[-1])
    reader = LoadReader(now=lambda: at[0])
    assert list(reader.read(_AROUND, 1, gpu=False).words()) == ["memory   6/8 GB", "CPU    —"]
    at[0], times[-1] = 10.0, _Times(13, 0, 10, 1, 8)
    assert list(reader.read(_AROUND, 1, gpu=False).words())[-1] == "CPU    —", "nothing has happened"
    assert list(reader.read(_AROUND, 2, gpu=False).words()) == ["memory   6/8 GB", "CPU  75%"]
    times[-1] = _Times(13, 0, 99, 1, 8)
    assert list(reader.read(_AROUND, 3, gpu=False).words())[-1] == "CPU  75%", "too soon"
    assert reader.read(UNKNOWN_MACHINE, 4, gpu=True) == Load()


def test_gpus_are_told_as_nvidia_smi_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _smi(tmp_path, 'echo "83, 61440, 81559"; echo "[N/A], 0, 81559"; echo "no devices"', monkeypatch)
    load = LoadReader().read(_AROUND, 1, gpu=True)
    assert load.gpus == (Gpu(0.83, 61440 * 2**20, 81559 * 2**20), Gpu(None, 0.0, 81559 * 2**20))
    assert list(load.words())[1] == "GPUs  83%/   —, 64.4/171 GB"
    assert {len(next(Load(0.5, Machine(free, 8e9, 5e9)).words())) for free in (0.0, 2e9, 7.3e9, 8e9)} == {15}
    one = Load(None, _AROUND, load.gpus[:1])
    assert list(one.words())[1] == "GPU  83%, 64.4/85.5 GB"
    assert LoadReader().read(_AROUND, 1, gpu=False).gpus == ()


@pytest.mark.parametrize("script", ["exit 9", "exec sleep 600", "printf '\\377'; echo"])
def test_a_tool_that_fails_or_hangs_is_not_asked_again(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _smi(tmp_path, f"echo >> {tmp_path}/asked; {script}", monkeypatch)
    monkeypatch.setattr("bitnet_core.runs.around._GPU_SECONDS", 0.5)
    at = [0.0]
    reader = LoadReader(now=lambda: at[0])
    for turn in range(3):
        at[0] += 10
        assert reader.read(_AROUND, turn, gpu=True).gpus == ()
    assert len((tmp_path / "asked").read_text().splitlines()) <= (1 if "printf" not in script else 3)
