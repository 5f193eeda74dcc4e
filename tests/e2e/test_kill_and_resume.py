"""`bitnet train`, killed with -9 at random steps and resumed, ends as if uninterrupted, to the last bit."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import UNSET

from bitnet_core import process
from bitnet_core.files import sha256_file
from bitnet_core.runs.events import Metric
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.launch import launch
from bitnet_core.runs.record import Run
from bitnet_core.settings.resolve import resolve
from tests.builders import events_of, followed
from tests.traces.sets import write_set

SETTINGS = """MINI_DIM=256
MINI_LAYERS=2
MINI_HEADS=4
MAX_SEQ_LEN=48
TRAIN_BATCH_SIZE=2
TOTAL_STEPS=1000
BUDGET_TOKENS=2000
FLIP_FRACTION=0.5
SCHEDULER_TMAX=50
LOG_INTERVAL=1
CHECKPOINT_INTERVAL=7
FORCE_CPU=1
DETERMINISTIC=1
"""
FIGURES = ("loss", "kl", "ce", "format", "agreement", "grad_norm", "lr", "seen_tokens", "activation_bits")
HELD_OUT = ("heldout_loss", "heldout_kl", "heldout_ce", "heldout_agreement")
KILLS = 2

pytestmark = pytest.mark.timeout(300)


def experiment(folder: Path) -> Path:
    folder.mkdir()
    (folder / ".env").write_text(SETTINGS)
    write_set(folder / "data", shards=1, sequences=60, length=12)
    return folder


def start(root: Path) -> Run:
    return launch(resolve(root=root, environ={}, cwd=root).checked(), "train", {})


def wait(run: Run, *, kill_at: int | None) -> None:
    """Wait for the run's end, or kill it when a metric of step `kill_at` appears."""
    if kill_at is None:
        followed(run)
        return
    reader = run.reader()
    while run.is_active():
        steps = [event.step for event in reader.read_new() if isinstance(event, Metric) and event.step is not UNSET]
        reached = any(step >= kill_at for step in steps)
        pid = run.record().pid
        if reached and pid is not None and process.identify(pid) is not None:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.02)


def metrics(runs: list[Run]) -> dict[tuple[Any, ...], list[Any]]:
    """The figures of each step. A step that was done twice must have the same figures both times."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for run in runs:
        for event in events_of(run.events_path):
            if event["kind"] != "metric":
                continue
            names = HELD_OUT if "heldout_loss" in event else FIGURES
            key = (event["step"], event.get("when"), names is HELD_OUT)
            values = [event.get(name) for name in names]
            assert found.setdefault(key, values) == values, key
    return found


def newest_saved(runs: list[Run]) -> int:
    """The step of the newest checkpoint that they have told of, which is whole; 0 = none."""
    saved = [event for run in runs for event in events_of(run.events_path) if event["kind"] == "checkpoint"]
    for event in saved[-1:]:
        assert sha256_file(Path(event["path"])) == event["sha256"]
    return saved[-1]["step"] if saved else 0


def last_checkpoint(root: Path) -> Any:
    folder = Experiment.from_settings(resolve(root=root, environ={}, cwd=root).checked()).checkpoints
    newest = max(folder.glob("mini_bitnet_step_*.pt"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))
    return newest.name, torch.load(newest, weights_only=True)


def require_equal(one: Any, two: Any, where: str) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert one.keys() == two.keys(), where
        for key in one:
            require_equal(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), where
        for place, (a, b) in enumerate(zip(one, two, strict=True)):
            require_equal(a, b, f"{where}[{place}]")
    else:
        assert one == two, where


def test_killed_and_resumed_training_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # tiny matmuls: a second thread would mostly wait
    whole, killed = experiment(tmp_path / "whole"), experiment(tmp_path / "killed")
    run = start(whole)
    wait(run, kill_at=None)
    assert run.state() == "succeeded"
    uninterrupted = metrics([run])
    steps = max(step for step, *_ in uninterrupted)
    flips = [event["step"] for event in events_of(run.events_path) if event["kind"] == "flip"]
    assert 5 < flips[0] < steps

    seed = random.randrange(1 << 30)  # other steps each time; a failure names the seed
    draw = random.Random(seed)
    moments = sorted([*(draw.randrange(2, steps - 1) for _ in range(KILLS - 1)), flips[0] + draw.randrange(3)])
    runs, saved = [], []
    for moment in moments:
        runs.append(start(killed))
        wait(runs[-1], kill_at=moment)
        saved.append(newest_saved(runs))
    runs.append(start(killed))
    wait(runs[-1], kill_at=None)
    assert runs[-1].state() == "succeeded", f"seed {seed}, killed at {moments}"
    assert "interrupted" in [one.state() for one in runs]
    assert metrics(runs) == uninterrupted, f"seed {seed}, killed at {moments}"
    begun = [min(step for step, when, _ in metrics([run]) if when is None) for run in runs[1:]]
    assert all(step > last for step, last in zip(begun, saved, strict=True)), f"seed {seed}: {saved}, {begun}"
    assert saved[-1], "before the flip, a checkpoint was saved"
    names, states = zip(*(last_checkpoint(root) for root in (whole, killed)), strict=True)
    assert names[0] == names[1]
    for part in ("model", "optimizer", "rng", "sampler", "step", "seen_tokens", "activation_bits", "recipe"):
        require_equal(states[0][part], states[1][part], f"seed {seed}, killed at {moments}: {part}")
