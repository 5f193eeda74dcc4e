"""How many tokens a training sees: by number or by epochs, decided once, kept when it resumes, and told."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core import files
from bitnet_core.errors import Stopped, UsageError
from bitnet_core.runs.resuming import budget_change
from bitnet_core.settings.flip import FlipOptions, decide
from bitnet_core.training import budget, checkpoints
from tests.training.conftest import StageTrainer, events

Make = Callable[..., StageTrainer]
BY_EPOCHS = {
    "BUDGET_TOKENS": "",
    "BUDGET_EPOCHS": "1.3",
    "TOTAL_STEPS": "",
    "SCHEDULER_TMAX": "",
    "LOG_INTERVAL": "1",
}
EPOCHS = st.floats(0.01, 10_000)
TOKENS = st.integers(1, 1 << 40)


@given(st.none() | TOKENS, EPOCHS, TOKENS, st.none() | st.tuples(TOKENS, st.none() | EPOCHS), st.booleans())
def test_what_is_given_counts_then_what_was_kept_then_the_epochs(tokens, epochs, epoch_tokens, was, same) -> None:
    kept = {} if was is None else {"tokens": was[0], "epoch_tokens": 1, "setting": epochs if same else was[1]}
    found = decide(FlipOptions(budget_tokens=tokens, budget_epochs=epochs), epoch_tokens, kept)
    assert found.setting == (epochs if tokens is None else None)
    if tokens is not None:
        assert found.tokens == tokens
    elif kept and kept["setting"] == epochs:
        assert found.tokens == kept["tokens"]
    else:
        exact = Fraction(epochs) * epoch_tokens
        assert found.tokens == 1 or abs(found.tokens - exact) <= Fraction(1, 2) + exact / (1 << 50)


@given(EPOCHS, TOKENS)
def test_a_budget_that_is_not_decided_has_no_threshold(epochs: float, epoch_tokens: int) -> None:
    flip = FlipOptions(budget_epochs=epochs, fraction=0.5)
    with pytest.raises(ValueError, match="not decided"):
        _ = flip.threshold
    decided = flip.decided(epoch_tokens)
    assert decided.threshold == decided.budget // 2
    with pytest.raises(UsageError, match="BUDGET_EPOCHS"):
        FlipOptions(budget_epochs=None).decided(epoch_tokens)


@pytest.mark.parametrize("kept", [{"tokens": "many"}, {"tokens": True}, {"tokens": -1}, {"tokens": None}, {}])
def test_an_odd_record_keeps_nothing(kept: dict[str, object]) -> None:
    assert decide(FlipOptions(budget_epochs=2), 50, kept).tokens == 100


@pytest.mark.parametrize(
    ("kept", "told"),
    [({"tokens": None}, {}), ({"tokens": "many"}, {}), ({}, {}), ({"tokens": 100}, {}),
     ({"tokens": 90}, {"BUDGET_TOKENS": (90, 100)})],
)  # fmt: skip
def test_only_another_budget_than_before_is_told(kept: dict[str, object], told: dict[str, object]) -> None:
    assert budget_change(kept, 100) == told


def test_older_checkpoints_keep_the_budget_of_their_health_file(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "1", "BUDGET_TOKENS": "777"})
    trainer.run()
    path = trainer.last_checkpoint
    assert path is not None
    checkpoint = checkpoints.load(path)
    assert budget.kept_in(path, checkpoint)["tokens"] == 777
    del checkpoint.counters["budget"]
    assert budget.kept_in(path, checkpoint) == {"tokens": 777}
    files.write_json(checkpoints.health_of(path), ["odd"])
    assert budget.kept_in(path, checkpoint) == {}


def test_epochs_decide_once_and_a_resumed_training_is_the_same_to_the_bit(make_trainer: Make) -> None:
    whole = make_trainer(BY_EPOCHS, name="whole")
    summary = whole.run()
    epoch = int(whole.sampler.supervised)
    assert summary["budget"] == {"tokens": round(1.3 * epoch), "epoch_tokens": epoch, "setting": 1.3}
    (told,) = events(whole, "budget")
    assert (told["tokens"], told["epoch_tokens"]) == (round(1.3 * epoch), epoch)
    assert told["flip_at_tokens"] == whole.options.flip.threshold == int(0.9 * told["tokens"])
    assert whole.state.seen_tokens >= told["tokens"] and whole.student.activation_bits == 4
    assert not events(whole, "alert")
    first = make_trainer(BY_EPOCHS, name="cut")
    original = first.stepper.step

    def step(*args, **kwargs):
        if first.state.step == 2:
            first.ctx.request_stop()
        return original(*args, **kwargs)

    first.stepper.step = step  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        first.run()
    second = make_trainer(BY_EPOCHS, name="cut", resume=True)
    second.run()
    assert [events(one, "budget")[0]["seen_tokens"] for one in (whole, second)] == [0, first.state.seen_tokens]
    assert events(second, "budget")[0]["activation_bits"] == 8
    assert second.state.budget == whole.state.budget and second.schedule == whole.schedule
    for name, tensor in whole.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name])
    assert whole.state.evaluations == second.state.evaluations
    more = make_trainer(BY_EPOCHS | {"BUDGET_EPOCHS": "1.6"}, name="cut", resume=True)
    more.run()
    assert more.state.budget["tokens"] == round(1.6 * epoch) and more.state.seen_tokens >= round(1.6 * epoch)
    changed = events(more, "changed")[0]
    assert changed["before"] == {"BUDGET_TOKENS": told["tokens"]}
    assert changed["after"] == {"BUDGET_TOKENS": more.state.budget["tokens"]}


@pytest.mark.parametrize(("epochs", "warned"), [("6", False), ("6.2", True)])
def test_above_six_epochs_is_warned_with_the_numbers(make_trainer: Make, epochs: str, warned: bool) -> None:
    trainer = make_trainer({**BY_EPOCHS, "BUDGET_EPOCHS": epochs})
    trainer.resume(trainer.ctx)
    trainer._announce()
    alerts = [one for one in events(trainer, "alert") if one["code"] == "many_epochs"]
    assert bool(alerts) == warned
    if warned:
        assert alerts[0]["message"].startswith(
            f"With this budget the student sees its {trainer.sampler.supervised:,} tokens 6.2 "
        )


def test_steps_that_end_it_early_are_not_warned_of_epochs(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "3", "BUDGET_TOKENS": "1000000"})
    trainer.resume(trainer.ctx)
    trainer._announce()
    assert [one["code"] for one in events(trainer, "alert")] == ["no_flip"]
