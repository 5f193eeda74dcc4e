"""Trainings in trouble: steps that are not finite, rolling back, divergence, and the calibration of fp16."""

import json
import math
import random
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError
from bitnet_core.traces.examples import Batch
from bitnet_core.training import checkpoints
from bitnet_core.training.monitor import Divergence
from bitnet_core.training.step import StepResult
from tests.training.conftest import StageTrainer, events

Make = Callable[..., StageTrainer]


def poison_steps(trainer: StageTrainer, bad: set[int]) -> None:
    """Make the gradient of the given calls infinite."""
    original, calls = trainer.stepper.step, iter(range(10**6))

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        if next(calls) not in bad:
            return original(batches, rate, decay=decay)
        handle = trainer.student.model.norm.weight.register_hook(lambda grad: torch.full_like(grad, math.inf))
        try:
            return original(batches, rate, decay=decay)
        finally:
            handle.remove()

    trainer.stepper.step = step  # type: ignore[method-assign]


def test_steps_with_infinite_gradients_are_skipped_and_counted(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "6"})
    poison_steps(trainer, {1, 3, 4})
    summary = trainer.run()
    assert (summary["steps"], summary["nonfinite"]) == (6, 3)
    alerts = [alert for alert in events(trainer, "alert") if alert["code"] == "nonfinite"]
    assert len(alerts) == 3
    assert "gradient after step 1" in alerts[0]["message"]
    assert all(torch.isfinite(p).all() for p in trainer.student.parameters())
    assert math.isfinite(summary["last_loss"])
    assert events(trainer, "metric")[-1]["step"] == 6


def test_three_in_a_row_roll_back_to_the_last_checkpoint_at_half_the_rate(make_trainer: Make) -> None:
    values = {"TOTAL_STEPS": "12", "SCHEDULER_TMAX": "12", "CHECKPOINT_INTERVAL": "4", "LOG_INTERVAL": "1"}
    trainer = make_trainer(values)
    poison_steps(trainer, {6, 7, 8})
    summary = trainer.run()
    assert (summary["steps"], summary["nonfinite"]) == (12, 3)
    (alert,) = [alert for alert in events(trainer, "alert") if alert["code"] == "rolled_back"]
    assert "after step 6" in alert["message"] and "mini_bitnet_step_00000004.pt" in alert["message"]
    rates = [(event["step"], event["lr"]) for event in events(trainer, "metric") if "lr" in event]
    assert [step for step, _rate in rates] == [1, 2, 3, 4, 5, 6, *range(5, 13)]
    assert rates[6][1] == rates[4][1] / 2
    # The data too: step 5 reads again what it read before.
    plain = make_trainer(values, name="plain")
    plain.run()
    assert summary["seen_tokens"] == plain.state.seen_tokens


def test_three_more_after_a_rollback_end_the_training(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "20", "CHECKPOINT_INTERVAL": "4"})
    poison_steps(trainer, {6, 7, 8, 10, 11, 12})
    with pytest.raises(BitnetError, match=r"3 times in a row after step 5, again .*step_00000004\.pt.*lower LR"):
        trainer.run()
    latest = checkpoints.latest(trainer.ctx.experiment.checkpoints)
    assert latest is not None
    kept = checkpoints.load(latest)
    assert (kept.step, kept.counters["rate_scale"], kept.counters["rolled_back"]) == (4, 0.5, True)


def test_three_in_a_row_without_a_checkpoint_end_the_training(make_trainer: Make) -> None:
    trainer = make_trainer()
    poison_steps(trainer, {1, 2, 3})
    with pytest.raises(BitnetError, match=r"3 times in a row after step 1 \(last good checkpoint: none yet\); lower"):
        trainer.run()


def test_a_diverging_loss_ends_the_training_and_is_not_saved(make_trainer: Make) -> None:
    values = {"TOTAL_STEPS": "60", "SCHEDULER_TMAX": "60", "LOG_INTERVAL": "1", "CHECKPOINT_INTERVAL": "2"}
    trainer = make_trainer(values | {"BUDGET_TOKENS": "100000"})
    original = trainer.stepper.step

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        return original(batches, rate if trainer.state.step < 10 else 1.0, decay=decay)

    trainer.stepper.step = step  # type: ignore[method-assign]
    with pytest.raises(BitnetError, match=r"Training diverged: the loss rose from .*last good checkpoint.*lower LR"):
        trainer.run()
    latest = checkpoints.latest(trainer.ctx.experiment.checkpoints)
    assert latest is not None
    good = checkpoints.load(latest)
    assert good.step <= 12
    assert good.counters["divergence"]["above"] == 0


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30))
def test_a_loss_that_fluctuates_by_less_than_a_nat_never_diverges(losses: list[float]) -> None:
    watch = Divergence()
    for loss in losses:
        watch.add(5 + loss / 10, 64)
        assert not watch.suspected
    for climbing in (50.0, 60.0, 70.0):
        assert not watch.certain
        watch.add(climbing, 64)
        assert watch.suspected
    assert watch.certain


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
@settings(max_examples=25)
def test_the_losses_of_single_small_batches_are_no_divergence(seed: int, interval: int) -> None:
    """Batches of one answer fluctuate by two nats, and the easiest of them has a loss near zero."""
    losses = random.Random(seed)
    watch = Divergence()
    for step in range(1500):
        watch.add(max(0.1, losses.gauss(6 + 4 * 0.98**step, 2 / interval**0.5)), interval)
        assert not watch.certain
    kept = Divergence(**json.loads(json.dumps(watch.state())))
    assert json.dumps(kept.state()) == json.dumps(watch.state())
    for _ in range(200):
        kept.add(losses.gauss(12, 2), interval)
    assert kept.certain


def test_fp16_trains_with_a_loss_scale_whose_calibration_is_not_a_failure(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "6"}, dtype=torch.float16)
    poison_steps(trainer, {0, 1, 2, 3})
    summary = trainer.run()
    assert (summary["steps"], summary["nonfinite"]) == (6, 4)
    again = make_trainer({"TOTAL_STEPS": "7"}, dtype=torch.float16, resume=True)
    assert again.stepper.scaler.get_scale() == trainer.stepper.scaler.get_scale()


def test_a_checkpoint_that_is_removed_meanwhile_is_told_and_the_training_goes_on(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "12", "CHECKPOINT_INTERVAL": "4"})
    folder = trainer.ctx.experiment.checkpoints
    original, calls = trainer.stepper.step, iter(range(100))

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        if next(calls) == 5:
            for path in folder.iterdir():
                path.unlink()
        return original(batches, rate, decay=decay)

    trainer.stepper.step = step  # type: ignore[method-assign]
    summary = trainer.run()
    (alert,) = [alert for alert in events(trainer, "alert") if alert["code"] == "checkpoint_removed"]
    assert "mini_bitnet_step_00000004.pt was removed during the training" in alert["message"]
    assert summary["checkpoint"] == str(checkpoints.latest(folder))
    kept = [checkpoints.load(path).step for path in checkpoints.found(folder)]
    assert kept == [12, 8]
    assert trainer.state.best["step"] in kept


def test_no_training_goes_back_to_a_checkpoint_that_is_gone(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "20", "CHECKPOINT_INTERVAL": "4"})
    poison_steps(trainer, {6, 7, 8})
    poisoned = trainer.stepper.step

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        checkpoints.path_of(trainer.ctx.experiment.checkpoints, 4).unlink(missing_ok=True)
        return poisoned(batches, rate, decay=decay)

    trainer.stepper.step = step  # type: ignore[method-assign]
    with pytest.raises(BitnetError, match=r"3 times in a row after step 6 \(last good checkpoint: none yet\)"):
        trainer.run()
    assert "checkpoint_removed" in [alert["code"] for alert in events(trainer, "alert")]
