"""A training that is stopped, gets another learning rate, and goes on: what it keeps, what changes, what is told."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bitnet_core import files
from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.runs.event_files import read_events
from bitnet_core.runs.event_words import describe
from bitnet_core.runs.events import SettingsChanged
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.outlook import outlook
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.settings.resolve import from_values
from bitnet_core.training import checkpoints
from bitnet_core.training.schedule import Schedule
from bitnet_core.training.state import TrainState
from tests.training.conftest import TINY, StageTrainer, events
from tests.training.test_trainer import stop_after

Make = Callable[..., StageTrainer]
STEPS = {"TOTAL_STEPS": "8", "LOG_INTERVAL": "1", "CHECKPOINT_INTERVAL": "2"}
NEW = {"LR": "5e-4", "WEIGHT_DECAY": "0.5", "ADAM_EPS": "1e-4", "FORMAT_LOSS_WEIGHT": "0.6"}


def _cut(make: Make, step: int, values: dict[str, str] = STEPS) -> StageTrainer:
    trainer = make(values, name="cut")
    stop_after(trainer, step)
    with pytest.raises(Stopped):
        trainer.run()
    return trainer


def _same_weights(ours: StageTrainer, theirs: StageTrainer) -> bool:
    pairs = zip(ours.student.state_dict().values(), theirs.student.state_dict().values(), strict=True)
    return all(torch.equal(one, two) for one, two in pairs)


def test_it_goes_on_as_if_the_settings_had_been_turned_in_the_running_training(make_trainer: Make) -> None:
    """To the bit, so weights, moments, cursor and counters are those of the stopped one, and the new values act."""
    whole = make_trainer(STEPS, name="whole")
    wanted = make_trainer(STEPS | NEW, name="wanted").options
    original = whole.stepper.step

    def step(*args, **kwargs):
        result = original(*args, **kwargs)
        if whole.state.step == 2:  # the third step has just been made
            whole.options = replace(wanted, flip=whole.options.flip)
            whole.schedule = Schedule(wanted.rate, whole.schedule.total_steps)
            whole.stepper.options = whole.options
            for group in whole.stepper.optimizer.param_groups:
                group["eps"] = wanted.eps
        return result

    whole.stepper.step = step  # type: ignore[method-assign]
    whole.run()
    _cut(make_trainer, 3)
    again = make_trainer(STEPS | NEW, name="cut", resume=True)
    assert again.state.step == 3
    again.run()
    assert _same_weights(again, whole)
    assert again.state.seen_tokens == whole.state.seen_tokens
    assert again.sampler.state() == whole.sampler.state()
    rates = {one["step"]: one["lr"] for one in events(again, "metric") if "lr" in one}
    assert rates == {step: Schedule(wanted.rate, 8).rate(step - 1) for step in range(4, 9)}
    old = make_trainer(STEPS, name="old")
    old.run()
    assert not _same_weights(again, old)


def test_what_changed_is_told_once_and_kept_in_every_record(make_trainer: Make) -> None:
    _cut(make_trainer, 3)
    again = make_trainer(STEPS | {"LR": "5e-4", "CHECKPOINT_INTERVAL": "100"}, name="cut", resume=True)
    (told,) = events(again, "changed")
    noted = {"step": 3, "seen_tokens": again.state.seen_tokens, "before": {"LR": 3e-3}, "after": {"LR": 5e-4}}
    assert {name: told[name] for name in noted} == noted
    (event,) = [one for one in read_events(again.ctx.run_dir / "events.jsonl") if isinstance(one, SettingsChanged)]
    assert describe(event) == "Training continues from step 3 with LR 3e-3 → 5e-4."
    assert not events(again, "alert")
    summary = again.run()
    assert summary["changes"] == [noted]
    path = again.last_checkpoint
    assert path is not None and files.read_json(checkpoints.health_of(path))["changes"] == [noted]
    assert files.read_json(checkpoints.health_of(path))["recipe"]["LR"] == 5e-4
    assert checkpoints.load(path).recipe["LR"] == 5e-4
    unchanged = make_trainer(STEPS | {"LR": "5e-4"}, name="cut", resume=True)
    assert (unchanged.state.step, unchanged.state.changes) == (8, [noted])
    assert not (unchanged.ctx.experiment.checkpoints / "superseded").exists()


def test_a_chosen_checkpoint_and_a_second_change(make_trainer: Make) -> None:
    make_trainer(STEPS, name="cut").run()
    again = make_trainer(STEPS | {"LR": "5e-4", "RESUME_STEP": "6"}, name="cut", resume=True)
    stop_after(again, 7)
    with pytest.raises(Stopped):
        again.run()
    third = make_trainer(STEPS | {"LR": "1e-4"}, name="cut", resume=True)
    third.run()
    assert [(one["step"], one["after"]) for one in third.state.changes] == [(6, {"LR": 5e-4}), (7, {"LR": 1e-4})]
    assert len(events(third, "changed")) >= 1 and third.state.step == 8


def test_a_finished_training_begins_a_new_one_unless_more_steps_come(make_trainer: Make) -> None:
    make_trainer(STEPS, name="cut").run()
    more = make_trainer(STEPS | {"LR": "5e-4", "TOTAL_STEPS": "10"}, name="cut", resume=True)
    assert more.state.step == 8 and {*more.state.changes[0]["after"]} == {"LR", "TOTAL_STEPS"}
    again = make_trainer(STEPS | {"LR": "5e-4"}, name="cut", resume=True)
    assert again.state.step == 0 and again.resumed_from is None
    (alert,) = [one for one in events(again, "alert") if one["code"] == "training_superseded"]
    assert alert["message"].startswith(
        "Training starts again after mini_bitnet_step_00000008.pt: it is finished, and LR 3e-3 → 5e-4 would reach "
        "no step. The old checkpoints are kept in "
    )


def test_a_training_that_adds_no_step_goes_on_under_no_other_settings(make_trainer: Make) -> None:
    make_trainer(STEPS, name="cut").run()
    again = make_trainer(STEPS | {"TOTAL_STEPS": "7"}, name="cut", resume=True)
    again.run()
    assert (again.state.step, again.state.changes, events(again, "changed")) == (8, [], [])


def test_from_0_starts_again_whatever_is_there(make_trainer: Make) -> None:
    assert make_trainer(STEPS | {"RESUME_STEP": "0"}, name="new", resume=True).state.step == 0
    cut = _cut(make_trainer, 3)
    again = make_trainer(STEPS | {"RESUME_STEP": "0"}, name="cut", resume=True)
    said = [one["message"] for one in events(again, "log")]
    assert any(one.startswith("Training starts again, as asked. The old checkpoints are kept in ") for one in said)
    assert not events(again, "alert")
    folder = cut.ctx.experiment.checkpoints
    assert (again.state.step, checkpoints.found(folder)) == (0, [])
    assert len(list(folder.glob("superseded/*/*.pt"))) == 2


def test_a_rate_that_was_halved_after_a_failure_is_whole_again_when_another_is_set() -> None:
    state = TrainState(step=9, rate_scale=0.5, rolled_back=True)
    state.take({"WEIGHT_DECAY": (0.1, 0.2)})
    assert (state.rate_scale, state.rolled_back) == (0.5, True)
    state.take({"LR": (1e-3, 1e-4)})
    assert (state.rate_scale, state.rolled_back) == (1.0, False)


def test_losses_of_other_parts_are_not_compared() -> None:
    state = TrainState()
    state.divergence.add(1.0, 100)
    state.take({"LR": (1e-3, 1e-4)})
    assert state.divergence.lowest == 1.0
    state.take({"FORMAT_LOSS_WEIGHT": (0.2, 9.0)})
    state.divergence.add(5.0, 100)
    assert not state.divergence.suspected


_FORETOLD: tuple[dict[str, str], ...] = (
    {},
    {"LR": "5e-4"},
    {"LR": "5e-4", "RESUME_STEP": "2"},
    {"LR": "5e-4", "TOTAL_STEPS": "4"},
    {"LR": "5e-4", "TOTAL_STEPS": "4", "RESUME_STEP": "4"},
    {"LR": "5e-4", "BUDGET_TOKENS": "300"},
    {"BUDGET_TOKENS": "300"},
    {"KD_TAU": "2"},
    {"KD_TAU": "2", "RESUME_STEP": "4"},
    {"SEED": "2", "LR": "5e-4"},
    {"FLIP_FRACTION": "0.5"},
    {"FLIP_FRACTION": "0.001"},
    {"RESUME_STEP": "0"},
    {"RESUME_STEP": "3"},
)


def _record(trainer: StageTrainer) -> None:
    """As its process would have it."""
    fields = {"state": "running", "argv": [], "host": "h", "boot_id": "b", "created": 1.0, "fingerprint": ""}
    settings, run = trainer.ctx.settings, Run(trainer.ctx.run_dir)
    run.write(RunRecord(run.id, "train", settings=settings.to_record(), origins=dict(settings.origins), **fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("older", [False, True])
def test_what_is_foretold_from_the_health_files_is_what_the_trainer_does(make_trainer: Make, older: bool) -> None:
    """Also where the health file is of a version that kept the recipe in the run's record alone."""
    trainer = make_trainer(STEPS | {"TOTAL_STEPS": "4"}, name="made")
    _record(trainer)
    trainer.run()
    root = trainer.ctx.experiment.root
    for path in trainer.ctx.experiment.checkpoints.glob("*_health.json") if older else ():
        kept = {name: one for name, one in files.read_json(path).items() if name not in ("recipe", "changes")}
        files.write_json(path, kept)
    for number, changed in enumerate(_FORETOLD):
        shutil.copytree(root, root.with_name(f"cut-{number}"))
        _is_foretold(make_trainer, root.with_name(f"cut-{number}"), changed)


def _is_foretold(make_trainer: Make, root: Path, changed: dict[str, str]) -> None:
    settings = from_values({"DRIVE_ROOT": str(root), **TINY, **STEPS, **changed})
    history = History.read(Experiment.from_settings(settings))
    found, folder = outlook(history, settings), history.experiment.checkpoints
    there = sorted(checkpoints.load(path).step for path in checkpoints.found(folder))
    try:
        again = make_trainer(STEPS | changed, name=root.name, resume=True)
    except BitnetError as error:
        assert found.refused, (changed, error)
        return
    left = {checkpoints.load(path).step for path in checkpoints.found(folder)}
    after = again.state.changes[-1]["after"] if again.state.changes else {}
    assert not found.refused, changed
    assert (found.step or 0) == again.state.step, changed
    assert [*found.aside] == [step for step in there if step not in left], changed
    assert found.starts_again == (again.resumed_from is None), changed
    assert found.step is None or found.finished == again.finished, changed
    assert {name: two[1] for name, two in found.changed.items()} == after, changed
