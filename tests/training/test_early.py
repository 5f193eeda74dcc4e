"""The second evaluation of a training: early enough to tell if it learns, made once, and not where one is near."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bitnet_core.errors import Stopped
from bitnet_core.runs.early import LEAST, early_steps
from bitnet_core.training import heldout
from tests.training.conftest import StageTrainer, events
from tests.training.test_trainer import stop_after, timeless

Make = Callable[..., StageTrainer]
LONGER = {"TOTAL_STEPS": "50", "SCHEDULER_TMAX": "50", "FLIP_FRACTION": "1"}
"""A tenth of these steps is 5."""


def measured(trainer: StageTrainer) -> list[tuple[str, int]]:
    return [(row["when"], row["step"]) for row in trainer.state.evaluations]


@pytest.mark.parametrize(
    ("steps", "interval", "early"),
    [(270, 60, 27), (270, 54, 27), (270, 53, None), (40, 1000, None), (41, 1000, LEAST), (100_000, 200, None)],
)
def test_it_is_a_tenth_of_the_steps_unless_a_checkpoint_or_the_end_is_near(
    steps: int, interval: int, early: int | None
) -> None:
    assert early_steps(steps, interval) == early


def test_it_is_measured_once_whether_or_not_the_training_is_resumed(make_trainer: Make) -> None:
    whole = make_trainer(LONGER, name="whole")
    whole.run()
    assert measured(whole) == [("start", 0), ("early", 5), ("end", 50)]
    for stopped in (4, 5, 6):
        first = make_trainer(LONGER, name=f"cut-{stopped}", resume=True)
        stop_after(first, stopped)
        with pytest.raises(Stopped):
            first.run()
        second = make_trainer(LONGER, name=f"cut-{stopped}", resume=True)
        second.run()
        assert timeless(whole.state.evaluations) == timeless(second.state.evaluations)
        assert timeless(events(first, "metric") + events(second, "metric")) == timeless(events(whole, "metric"))
        for name, tensor in whole.student.state_dict().items():
            assert torch.equal(tensor, second.student.state_dict()[name]), name


def test_one_that_was_stopped_is_made_when_the_training_goes_on(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(LONGER, name="cut", resume=True)

    def stopping(*arguments: Any, **options: Any) -> Any:
        if trainer.state.step == 5:
            raise Stopped
        return untouched(*arguments, **options)

    untouched = heldout.measure
    monkeypatch.setattr(heldout, "measure", stopping)
    with pytest.raises(Stopped):
        trainer.run()
    assert measured(trainer) == [("start", 0)]
    monkeypatch.undo()
    again = make_trainer(LONGER, name="cut", resume=True)
    again.run()
    assert measured(again) == [("start", 0), ("early", 5), ("end", 50)]


def test_while_the_student_becomes_ternary_the_first_evaluation_after_it_counts(make_trainer: Make) -> None:
    trainer = make_trainer(LONGER | {"BUDGET_TOKENS": "9000", "QUANT_RAMP_FRACTION": "0.1"})
    trainer.run()
    (start, ternary, early, *_) = measured(trainer)
    assert (start[0], ternary[0], early[0]) == ("start", "ternary", "early")
    assert early[1] - ternary[1] == 5 < ternary[1]
