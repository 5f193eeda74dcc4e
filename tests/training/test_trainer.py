"""Whole trainings with tiny settings: resuming, the flip, events, checkpoints."""

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.model.packing import load_packed, pack_student, save_packed
from bitnet_core.runs.presence import Gone
from bitnet_core.traces.examples import Batch
from bitnet_core.training import checkpoints, report
from bitnet_core.training.flip import flip_report
from bitnet_core.training.report import interval
from bitnet_core.training.step import StepResult
from tests.training.conftest import StageTrainer, events

Make = Callable[..., StageTrainer]
TIMES = ("tokens_per_s", "peak_rss_bytes", "t", "seq", "v")


def timeless(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def stop_after(trainer: StageTrainer, steps: int) -> None:
    """Ask for a stop, as SIGTERM does, once this many steps are done."""
    original = trainer.stepper.step

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        result = original(batches, rate, decay=decay)
        if trainer.state.step + 1 >= steps:
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

    assert (second.state.step, second.state.seen_tokens) == (whole.state.step, whole.state.seen_tokens)
    assert second.student.activation_bits == whole.student.activation_bits == 4
    for name, tensor in whole.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name]), name
    ours, theirs = (one.stepper.optimizer.state_dict()["state"] for one in (whole, second))
    for index, state in ours.items():
        assert all(torch.equal(state[key], theirs[index][key]) for key in state)
    assert whole.sampler.state() == second.sampler.state()
    assert timeless(events(first, "metric") + events(second, "metric")) == timeless(events(whole, "metric"))
    assert timeless(events(first, "flip") + events(second, "flip")) == timeless([flip])
    assert timeless(whole.state.evaluations) == timeless(second.state.evaluations)
    assert summary["resumed_from"] == str(second.resumed_from)


def test_a_checkpoint_that_is_measured_after_it_was_saved_has_its_held_out_loss(make_trainer: Make) -> None:
    first = make_trainer(name="cut", resume=True)
    stop_after(first, 3)
    with pytest.raises(Stopped):
        first.run()
    assert first.last_checkpoint is not None
    assert checkpoints.read_health(first.last_checkpoint)["heldout"]["step"] < 3
    second = make_trainer({"LR": "1e-4"}, name="cut", resume=True)
    stop_after(second, 4)
    with pytest.raises(Stopped):
        second.run()
    (measured,) = [one for one in events(second, "metric") if one.get("when") == "changed"]
    health = checkpoints.read_health(first.last_checkpoint)
    assert (health["heldout"]["step"], health["heldout"]["heldout_loss"]) == (3, measured["heldout_loss"])
    assert checkpoints.is_complete(first.last_checkpoint)


def test_checkpoints_removed_under_a_training_are_saved_once_more_before_it_ends(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "8", "CHECKPOINT_INTERVAL": "2"})
    folder = trainer.ctx.experiment.checkpoints
    original = trainer.stepper.step

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        if trainer.state.step + 1 == 4:  # a checkpoint follows this step
            shutil.rmtree(folder)
        return original(batches, rate, decay=decay)

    trainer.stepper.step = step  # type: ignore[method-assign]
    with trainer.ctx.presence as held:
        held.watch(folder)
        with pytest.raises(Gone, match=r"checkpoints was removed.* while train was using it"):
            trainer.run()
    path = checkpoints.latest(folder)
    assert path is not None
    assert checkpoints.load(path).step == 4


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
    start, end = trainer.state.evaluations[0], trainer.state.evaluations[-1]
    assert end["heldout_loss"] < 0.6 * start["heldout_loss"]
    assert start["heldout_agreement"] < 0.1
    assert end["heldout_agreement"] > 0.5
    assert summary["heldout_agreement"] == end["heldout_agreement"]
    rows = {row["when"]: row for row in trainer.state.evaluations}
    assert rows["before flip"]["step"] == rows["after flip"]["step"]
    assert (rows["before flip"]["activation_bits"], rows["after flip"]["activation_bits"]) == (8, 4)
    assert rows["before flip"]["heldout_loss"] != rows["after flip"]["heldout_loss"]


def test_the_flip_is_the_first_step_at_the_threshold(make_trainer: Make) -> None:
    trainer = make_trainer(FLIPPING)
    used: list[tuple[int, int | None]] = []
    original = trainer.stepper.step

    def step(batches: Sequence[Batch], rate: float, *, decay: bool) -> StepResult:
        used.append((trainer.state.seen_tokens, trainer.student.activation_bits))
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
    assert budget.state.seen_tokens >= 200
    assert budget.state.step < 8
    steps = make_trainer(name="steps")
    steps.run()
    assert steps.state.step == 8
    (alert,) = events(steps, "alert")
    assert alert["code"] == "no_flip"
    assert not events(budget, "alert")
    (said,) = [one["message"] for one in events(budget, "log") if "used up" in one["message"]]
    assert said.startswith(f"The budget of 200 tokens is used up at step {budget.state.step} of at most 8 ")
    assert not [one for one in events(steps, "log") if "used up" in one["message"]]


def test_without_a_number_of_steps_the_budget_decides(make_trainer: Make) -> None:
    values = {"TOTAL_STEPS": "", "SCHEDULER_TMAX": "", "BUDGET_TOKENS": "900", "FLIP_FRACTION": "0.5"}
    trainer = make_trainer(values)
    trainer.run()
    assert trainer.state.seen_tokens >= 900
    assert trainer.student.activation_bits == 4
    assert abs(trainer.schedule.steps - trainer.state.step) <= 1
    assert trainer.schedule.rate(trainer.schedule.steps) == trainer.options.rate.floor
    assert not events(trainer, "alert")


def test_steps_that_end_before_the_budget_are_told_with_the_numbers(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "6", "BUDGET_TOKENS": "900", "FLIP_FRACTION": "0.1"})
    trainer.run()
    assert any(
        one["message"].startswith("TOTAL_STEPS=6 ends at about ")
        and one["message"].endswith(" of the budget's 900 tokens, after the flip at 90.")
        for one in events(trainer, "log")
    )


def test_events_health_and_files(make_trainer: Make) -> None:
    trainer = make_trainer({"CHECKPOINT_INTERVAL": "2", "TOTAL_STEPS": "12"})
    trainer.run()
    labels = [event.get("label") for event in events(trainer, "progress")]
    assert labels[0].startswith("scoring held-out traces, 1 of ")
    assert "" in labels, "and steps have none"
    metrics = [event for event in events(trainer, "metric") if "loss" in event]
    assert [event["step"] for event in metrics] == [1, 2, 4, 6, 8, 10, 12]
    wanted = {"seen_tokens", "loss", "kl", "ce", "format", "lr", "grad_norm", "tokens_per_s", "activation_bits"}
    assert all(wanted | {"nonfinite", "peak_rss_bytes"} <= event.keys() for event in metrics)
    assert all(event["tokens_per_s"] > 0 for event in metrics)
    trust = {"grad_norm_clipped", "zero_weight_fraction", "zero_weights_by_layer", "a4_clipped_fraction"}
    assert all(trust | {"a4_zero_fraction", "layers_at_4_bits"} <= event.keys() for event in metrics)
    assert "sign_change_fraction" not in metrics[0]
    assert all(0 < event["sign_change_fraction"] < 0.5 for event in metrics[1:])
    assert all(
        event["grad_norm_clipped"] <= 1 and event["grad_norm_clipped"] <= event["grad_norm"] for event in metrics
    )
    assert metrics[-1]["seen_tokens"] == trainer.state.seen_tokens
    options = trainer.options.loss
    for event in metrics:
        format_weight = (event["loss"] - event["kl"] - options.ce * event["ce"]) / event["format"]
        assert 1 / 5 <= format_weight / options.format < 1 / 3  # the part of an answer's tokens that are structure
        assert 0 < event["format_share"] < 1
    folder = trainer.ctx.experiment.checkpoints
    assert [event["step"] for event in events(trainer, "checkpoint")] == [2, 4, 6, 8, 10, 12]
    kept = {path.name for path in checkpoints.found(folder)}
    best = checkpoints.path_of(folder, trainer.state.best["step"]).name
    assert kept == {f"mini_bitnet_step_000000{n}.pt" for n in ("08", "10", "12")} | {best}
    path = checkpoints.latest(folder)
    assert path is not None
    health = json.loads(checkpoints.health_of(path).read_text(), parse_constant=lambda name: pytest.fail(name))
    assert health["seen_tokens"] == trainer.state.seen_tokens
    assert health["heldout"]["heldout_loss"] == trainer.state.evaluations[-1]["heldout_loss"]
    assert 0.2 < health["zero_weight_fraction"] < 0.5
    assert events(trainer, "progress")[-1]["done"] == 12
    student = checkpoints.student_from(checkpoints.load(path))
    ids = torch.arange(20)[None]
    trainer.student.eval()
    assert torch.equal(student(ids), trainer.student(ids))


def test_metrics_are_close_enough_for_a_curve_where_no_interval_is_set(make_trainer: Make) -> None:
    assert [interval(steps) for steps in (1, 59, 70, 1499, 1500, 10**6)] == [1, 1, 2, 49, 50, 50]
    trainer = make_trainer({"LOG_INTERVAL": "", "TOTAL_STEPS": "6"})
    trainer.run()
    assert [event["step"] for event in events(trainer, "metric") if "loss" in event] == [1, 2, 3, 4, 5, 6]


def test_the_twin_in_full_precision_trains_unquantised_and_never_flips(make_trainer: Make) -> None:
    trainer = make_trainer(FLIPPING | {"STUDENT_QUANTIZE": "0"})
    trainer.run()
    assert set(trainer.student.layer_bits) == {None}
    assert not events(trainer, "flip")
    path = checkpoints.latest(trainer.ctx.experiment.checkpoints)
    assert path is not None and checkpoints.load(path).activation_bits is None


RAMP = {"FLIP_POLICY": "ramp", "FLIP_RAMP_FRACTION": "0.3", "FLIP_FRACTION": "0.4", "BUDGET_TOKENS": "1600"}


def test_a_ramp_flips_layer_after_layer_and_resumes_to_the_bit(make_trainer: Make) -> None:
    values = RAMP | {"TOTAL_STEPS": "30", "SCHEDULER_TMAX": "12", "LOG_INTERVAL": "1"}
    whole = make_trainer(values, name="whole", num_hidden_layers=3)
    whole.run()
    flips = events(whole, "flip")
    assert [flip["layers_flipped"] for flip in flips] == [1, 2, 3]
    for flip, due in zip(flips, (640, 880, 1120), strict=True):
        before = [
            event["seen_tokens"] for event in events(whole, "metric") if event["seen_tokens"] < flip["seen_tokens"]
        ]
        assert max(before) < due <= flip["seen_tokens"]
    told = [(row["activation_bits"], row["layers_at_4_bits"], row["layers"]) for row in events(whole, "metric")]
    assert [bits for bits, _ in itertools.groupby(told)] == [(8, 0, 3), (4, 1, 3), (4, 2, 3), (4, 3, 3)]
    amid = next(row for row in whole.state.evaluations if row["layers_at_4_bits"] == 2)
    assert report.training_table([amid], None)[1][0][3] == "4 in 2 of 3 layers"
    for stopped in (4, 6, 8):
        first = make_trainer(values, name=f"cut-{stopped}", num_hidden_layers=3)
        stop_after(first, stopped)
        with pytest.raises(Stopped):
            first.run()
        again = {"RECOMPUTE_ACTIVATIONS": "1"}  # which changes nothing but time and memory
        second = make_trainer(values | again, name=f"cut-{stopped}", resume=True, num_hidden_layers=3)
        second.run()
        for name, tensor in whole.student.state_dict().items():
            assert torch.equal(tensor, second.student.state_dict()[name]), (stopped, name)
        assert whole.state.evaluations == second.state.evaluations, stopped


def test_a_checkpoint_in_the_middle_of_a_flip_is_the_student_that_was_trained(
    make_trainer: Make, tmp_path: Path
) -> None:
    values = RAMP | {"TOTAL_STEPS": "30", "SCHEDULER_TMAX": "12"}
    trainer = make_trainer(values, num_hidden_layers=3)
    stop_after(trainer, 6)
    with pytest.raises(Stopped):
        trainer.run()
    trained = trainer.student.eval()
    bits = trained.layer_bits
    assert set(bits) == {4, 8}
    stored = checkpoints.student_from(
        checkpoints.load(checkpoints.require_latest(trainer.ctx.experiment.checkpoints))
    )
    packed = pack_student(stored)
    save_packed(packed, tmp_path / "packed.pt")
    ids = torch.arange(40).view(2, 20)
    for loaded in (stored, packed, load_packed(tmp_path / "packed.pt")):
        assert loaded.layer_bits == bits
    with torch.no_grad():
        wanted = trained.logits(trained(ids))
        assert torch.equal(stored.logits(stored(ids)), wanted)
        assert torch.allclose(packed.logits(packed(ids)), wanted, atol=1e-4)
        stored.activation_bits = bits[0]
        assert not torch.allclose(stored.logits(stored(ids)), wanted, atol=1e-2), (
            "the bits of the first layer are not it"
        )


def test_a_step_past_flip_and_budget_leaves_a_4_bit_student(make_trainer: Make) -> None:
    trainer = make_trainer({"BUDGET_TOKENS": "130", "FLIP_FRACTION": "0.9", "GRAD_ACCUM_STEPS": "4"})
    summary = trainer.run()
    assert (summary["steps"], summary["activation_bits"]) == (1, 4)
    assert [row["when"] for row in trainer.state.evaluations] == ["start", "before flip", "after flip", "end"]


def test_a_larger_budget_does_not_undo_the_flip(make_trainer: Make) -> None:
    make_trainer(FLIPPING, name="mine").run()
    more = {"BUDGET_TOKENS": "4000", "TOTAL_STEPS": "12"}
    again = make_trainer(FLIPPING | more, name="mine", resume=True)
    assert again.state.step > 0
    again.run()
    assert again.state.seen_tokens < again.options.flip.threshold
    assert set(again.student.layer_bits) == {4}
    assert [
        one
        for one in events(again, "log")
        if "stay at 4 bits: the larger budget puts the flip at 2,000" in one["message"]
    ]


def test_recovery_is_followed_until_the_loss_is_back(make_trainer: Make) -> None:
    rows = [
        {"when": "before flip", "seen_tokens": 100, "heldout_loss": 2.0},
        {"when": "after flip", "seen_tokens": 100, "heldout_loss": 2.25},
        {"when": "recovery", "seen_tokens": 120, "heldout_loss": 2.1},
    ]
    assert flip_report(rows[:1]) == {}
    assert flip_report(rows) == {"flip_shock": 0.25, "flip_recovered_after_tokens": None}
    rows.append({"when": "end", "seen_tokens": 150, "heldout_loss": 2.0})
    assert flip_report(rows) == {"flip_shock": 0.25, "flip_recovered_after_tokens": 50}
    trainer = make_trainer(FLIPPING | {"LOG_INTERVAL": "1", "FORMAT_LOSS_WEIGHT": "1"})
    summary = trainer.run()
    (flip,) = events(trainer, "flip")
    followed = [row["step"] - flip["step"] for row in trainer.state.evaluations if row["when"] == "recovery"]
    assert followed[0] == 1
    assert summary["flip_shock"] == pytest.approx(flip_report(trainer.state.evaluations)["flip_shock"])


def test_an_incomplete_checkpoint_is_skipped_with_an_alert(make_trainer: Make) -> None:
    first = make_trainer({"CHECKPOINT_INTERVAL": "4"}, name="torn")
    first.run()
    newest = checkpoints.path_of(first.ctx.experiment.checkpoints, 8)
    newest.write_bytes(newest.read_bytes()[:1000])
    second = make_trainer({"CHECKPOINT_INTERVAL": "4"}, name="torn", resume=True)
    assert second.state.step == 4
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


def test_another_recipe_starts_again_and_keeps_the_old_checkpoints(make_trainer: Make) -> None:
    """A finished student must neither be certified under settings it was not trained with, nor be lost."""
    first = make_trainer(name="mine")
    first.run()
    folder = first.ctx.experiment.checkpoints
    before = {path.name: path.read_bytes() for path in folder.glob("mini_bitnet*")}
    again = make_trainer({"KD_TAU": "2.5"}, name="mine", resume=True)
    assert (again.resumed_from, again.state.step) == (None, 0)
    aside = next((folder / "superseded").iterdir())
    assert {path.name: path.read_bytes() for path in aside.iterdir()} == before
    alerts = events(again, "alert")
    assert [alert["code"] for alert in alerts] == ["training_superseded"]
    assert alerts[0]["message"].startswith(
        "Training starts again after mini_bitnet_step_00000008.pt: what it was trained with has changed "
        "(KD_TAU 1.3 → 2.5). The old checkpoints are kept in "
    )
