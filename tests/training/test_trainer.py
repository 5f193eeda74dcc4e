"""Whole runs in tiny settings: resume, flip, refusals, what is said and what is left."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.events import read_events
from bitnet_core.training import checkpoints
from bitnet_core.training.batches import Batch
from bitnet_core.training.step import StepResult
from bitnet_core.training.trainer import Trainer

Make = Callable[..., Trainer]
TIMES = ("tokens_per_s", "peak_rss_bytes", "t", "seq", "v")


def events(trainer: Trainer, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_events(trainer.ctx.run_dir / "events.jsonl") if event["kind"] == kind]


def timeless(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def stop_after(trainer: Trainer, steps: int) -> None:
    """Ask for a stop as SIGTERM would, once so many steps are done."""
    original = trainer.stepper.step

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        result = original(batches, rate, decay=decay)
        if trainer.step + 1 >= steps:
            trainer.ctx.request_stop()
        return result

    trainer.stepper.step = step  # type: ignore[method-assign]


FLIPPING = {"BUDGET_TOKENS": "1100", "FLIP_FRACTION": "0.5", "TOTAL_STEPS": "8"}


@pytest.mark.parametrize("stopped", [1, 3, 5, 7])
def test_a_resumed_run_is_the_uninterrupted_one(make_trainer: Make, stopped: int) -> None:
    """Bit for bit, across the flip: weights, moments, metrics, cursor."""
    whole = make_trainer(FLIPPING, name="whole")
    whole.run()
    (flip,) = events(whole, "flip")
    assert 1 < flip["step"] < 7

    first = make_trainer(FLIPPING, name="cut", resume=True)
    stop_after(first, stopped)
    with pytest.raises(Stopped):
        first.run()
    assert checkpoints.latest(first.ctx.experiment.checkpoints) == first.last_checkpoint
    second = make_trainer(FLIPPING | {"SEED": "1234"}, name="cut", resume=True)
    assert second.resumed_from is not None
    summary = second.run()

    assert (second.step, second.seen_tokens) == (whole.step, whole.seen_tokens)
    assert second.student.activation_bits == whole.student.activation_bits == 4
    for name, tensor in whole.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name]), name
    ours, theirs = (one.stepper.optimizer.state_dict()["state"] for one in (whole, second))
    for index, state in ours.items():
        assert all(torch.equal(state[key], theirs[index][key]) for key in state)
    assert whole.sampler.state() == second.sampler.state()
    assert timeless(events(first, "metric") + events(second, "metric")) == timeless(events(whole, "metric"))
    assert timeless(events(first, "flip") + events(second, "flip")) == timeless([flip])
    assert timeless(whole.evaluations) == timeless(second.evaluations)
    assert summary["resumed_from"] == str(second.resumed_from)


def test_training_a_finished_run_again_changes_nothing(make_trainer: Make) -> None:
    first = make_trainer(name="same")
    summary = first.run()
    again = make_trainer(name="same", resume=True)
    repeated = again.run()
    assert timeless([repeated | {"resumed_from": None}]) == timeless([summary])
    assert not events(again, "checkpoint")
    longer = make_trainer({"TOTAL_STEPS": "10"}, name="same", resume=True)
    assert longer.run()["steps"] == 10


def test_the_loss_falls_and_held_out_agreement_rises(make_trainer: Make) -> None:
    values = {"TOTAL_STEPS": "60", "SCHEDULER_TMAX": "60", "BUDGET_TOKENS": "4000", "FLIP_FRACTION": "0.6"}
    trainer = make_trainer(values)
    summary = trainer.run()
    assert summary["last_loss"] < 0.5 * summary["first_loss"]
    start, end = trainer.evaluations[0], trainer.evaluations[-1]
    assert end["heldout_loss"] < 0.6 * start["heldout_loss"]
    assert start["heldout_agreement"] < 0.1
    assert end["heldout_agreement"] > 0.5
    assert summary["heldout_agreement"] == end["heldout_agreement"]
    rows = {row["when"]: row for row in trainer.evaluations}
    assert rows["before flip"]["step"] == rows["after flip"]["step"]
    assert (rows["before flip"]["activation_bits"], rows["after flip"]["activation_bits"]) == (8, 4)
    assert rows["before flip"]["heldout_loss"] != rows["after flip"]["heldout_loss"]


def test_the_flip_is_the_first_step_at_the_threshold(make_trainer: Make) -> None:
    trainer = make_trainer(FLIPPING)
    used: list[tuple[int, int | None]] = []
    original = trainer.stepper.step

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        used.append((trainer.seen_tokens, trainer.student.activation_bits))
        return original(batches, rate, decay=decay)

    trainer.stepper.step = step  # type: ignore[method-assign]
    trainer.run()
    assert [bits for _seen, bits in used] == [8 if seen < 550 else 4 for seen, _bits in used]
    (flip,) = events(trainer, "flip")
    assert (flip["from_bits"], flip["to_bits"]) == (8, 4)
    assert flip["seen_tokens"] == next(seen for seen, bits in used if bits == 4)


def test_training_ends_with_the_budget_or_the_steps(make_trainer: Make) -> None:
    budget = make_trainer({"BUDGET_TOKENS": "200"}, name="budget")
    budget.run()
    assert budget.seen_tokens >= 200
    assert budget.step < 8
    steps = make_trainer(name="steps")
    steps.run()
    assert steps.step == 8
    (alert,) = events(steps, "alert")
    assert alert["code"] == "no_flip"
    assert not events(budget, "alert")


def test_events_health_and_files(make_trainer: Make) -> None:
    trainer = make_trainer({"CHECKPOINT_INTERVAL": "2", "TOTAL_STEPS": "12"})
    trainer.run()
    metrics = [event for event in events(trainer, "metric") if "loss" in event]
    assert [event["step"] for event in metrics] == [1, 2, 4, 6, 8, 10, 12]
    wanted = {"seen_tokens", "loss", "kl", "ce", "format", "lr", "grad_norm", "tokens_per_s", "activation_bits"}
    assert all(wanted | {"nonfinite", "peak_rss_bytes"} <= event.keys() for event in metrics)
    assert all(event["tokens_per_s"] > 0 for event in metrics)
    assert metrics[-1]["seen_tokens"] == trainer.seen_tokens
    options = trainer.options.loss
    for event in metrics:
        assert event["loss"] == pytest.approx(
            event["kl"] + options.ce * event["ce"] + options.format * event["format"], rel=1e-5
        )
    folder = trainer.ctx.experiment.checkpoints
    assert [event["step"] for event in events(trainer, "checkpoint")] == [2, 4, 6, 8, 10, 12]
    kept = {path.name for path in checkpoints.found(folder)}
    best = checkpoints.path_of(folder, trainer.best["step"]).name
    assert kept == {f"mini_bitnet_step_000000{n}.pt" for n in ("08", "10", "12")} | {best}
    path = checkpoints.latest(folder)
    assert path is not None
    health = json.loads(checkpoints.health_of(path).read_text(), parse_constant=lambda name: pytest.fail(name))
    assert health["seen_tokens"] == trainer.seen_tokens
    assert health["heldout"]["heldout_loss"] == trainer.evaluations[-1]["heldout_loss"]
    assert 0.2 < health["zero_weight_fraction"] < 0.5
    assert events(trainer, "progress")[-1]["done"] == 12
    student = checkpoints.student_from(checkpoints.load(path))
    ids = torch.arange(20)[None]
    trainer.student.eval()
    assert torch.equal(student(ids), trainer.student(ids))


def poison_steps(trainer: Trainer, bad: set[int]) -> None:
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


def test_infinite_gradients_are_skipped_counted_and_told(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "6"})
    poison_steps(trainer, {1, 3, 4})
    summary = trainer.run()
    assert (summary["steps"], summary["nonfinite"]) == (6, 3)
    told = [alert for alert in events(trainer, "alert") if alert["code"] == "nonfinite"]
    assert len(told) == 3
    assert "gradient after step 1" in told[0]["message"]
    assert all(torch.isfinite(p).all() for p in trainer.student.parameters())
    assert math.isfinite(summary["last_loss"])
    assert events(trainer, "metric")[-1]["step"] == 6


def test_three_in_a_row_end_the_run_and_keep_the_last_checkpoint(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "20", "CHECKPOINT_INTERVAL": "4"})
    poison_steps(trainer, {6, 7, 8})
    with pytest.raises(BitnetError, match=r"3 times in a row after step 6.*step_00000004\.pt.*lower LR"):
        trainer.run()
    latest = checkpoints.latest(trainer.ctx.experiment.checkpoints)
    assert latest is not None
    assert checkpoints.load(latest).step == 4


def test_fp16_trains_with_a_loss_scale_and_its_calibration_is_no_failure(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "6"}, dtype=torch.float16)
    poison_steps(trainer, {0, 1, 2, 3})
    summary = trainer.run()
    assert (summary["steps"], summary["nonfinite"]) == (6, 4)
    again = make_trainer({"TOTAL_STEPS": "7"}, dtype=torch.float16, resume=True)
    assert again.stepper.scaler.get_scale() == trainer.stepper.scaler.get_scale()


def test_an_incomplete_checkpoint_is_passed_over_and_told(make_trainer: Make) -> None:
    first = make_trainer({"CHECKPOINT_INTERVAL": "4"}, name="torn")
    first.run()
    newest = checkpoints.path_of(first.ctx.experiment.checkpoints, 8)
    newest.write_bytes(newest.read_bytes()[:1000])
    second = make_trainer({"CHECKPOINT_INTERVAL": "4"}, name="torn", resume=True)
    assert second.step == 4
    assert [alert["code"] for alert in events(second, "alert")] == ["checkpoint_incomplete"]
    second.run()
    for name, tensor in first.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name])


def test_another_shape_or_tokenizer_is_refused_and_nothing_is_overwritten(make_trainer: Make) -> None:
    first = make_trainer(name="mine")
    first.run()
    folder: Path = first.ctx.experiment.checkpoints
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(BitnetError, match=r"num_hidden_layers=1.*num_hidden_layers=2.*another experiment"):
        make_trainer(name="mine", resume=True, num_hidden_layers=2)
    with pytest.raises(BitnetError, match=r"tokenizer t+.*u+.*left as they are"):
        make_trainer(name="mine", resume=True, tokenizer_hash="u" * 64)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_another_recipe_trains_anew_and_keeps_what_there_was(make_trainer: Make) -> None:
    """A finished student must not be certified under settings it never saw; nor may it be lost."""
    first = make_trainer(name="mine")
    first.run()
    folder = first.ctx.experiment.checkpoints
    before = {path.name: path.read_bytes() for path in folder.glob("mini_bitnet*")}
    again = make_trainer({"KD_TAU": "2.5"}, name="mine", resume=True)
    assert (again.resumed_from, again.step) == (None, 0)
    aside = next((folder / "superseded").iterdir())
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    alerts = [e for e in read_events(again.ctx.run_dir / "events.jsonl") if e["kind"] == "alert"]
    assert [alert["code"] for alert in alerts] == ["training_superseded"]
    assert alerts[0]["message"].startswith("KD_TAU changed since mini_bitnet_step_")
