"""When a training measures besides at checkpoints, flip and end: about ten times, soon at first, by counts alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from bitnet_core.errors import Stopped
from bitnet_core.runs.cadence import LEAST, Cadence
from bitnet_core.training import heldout
from tests.training.conftest import StageTrainer, events
from tests.training.test_trainer import stop_after, timeless

Make = Callable[..., StageTrainer]
LONGER = {"TOTAL_STEPS": "50", "SCHEDULER_TMAX": "50", "FLIP_FRACTION": "1"}
"""A tenth of these steps is 5."""


def measured(trainer: StageTrainer) -> list[tuple[str, int]]:
    return [(row["when"], row["step"]) for row in trainer.state.evaluations]


@pytest.mark.parametrize(
    ("steps", "interval", "held_out", "gaps"),
    [
        (270, 60, 100, (27, 27)),
        (270, 54, 100, (27, 27)),
        (270, 53, 100, (None, None)),  # checkpoints are about as near
        (9, 1000, 0, (None, None)),  # the end is
        (10, 1000, 0, (LEAST, LEAST)),
        (100_000, 200, 20_000, (None, None)),
        (270, 1000, 1000, (27, 34)),  # it takes as long as 3.3 steps
        (62, 200, 2284, (7, 21)),  # 7.6 steps of 62: the curve has a point after each third all the same
    ],
)
def test_it_is_a_tenth_of_the_steps_unless_that_costs_too_much_or_something_else_is_near(
    steps: int, interval: int, held_out: int, gaps: tuple[int | None, int | None]
) -> None:
    assert Cadence.of(steps, interval, held_out, 100) == Cadence(*gaps)


def test_it_measures_at_the_same_steps_whether_or_not_the_training_is_resumed(make_trainer: Make) -> None:
    values = LONGER | {"TOTAL_STEPS": "25", "SCHEDULER_TMAX": "25"}
    whole = make_trainer(values, name="whole")
    whole.run()
    regular = [("regular", step) for step in (10, 15, 20)]
    assert measured(whole) == [("start", 0), ("early", 5), *regular, ("end", 25)]
    (budget,) = events(whole, "budget")
    assert (budget["evaluates_early_steps"], budget["evaluates_every_steps"]) == (5, 5)
    for stopped in (4, 5, 6, 15):
        first = make_trainer(values, name=f"cut-{stopped}", resume=True)
        stop_after(first, stopped)
        with pytest.raises(Stopped):
            first.run()
        second = make_trainer(values, name=f"cut-{stopped}", resume=True)
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
    assert measured(again)[:2] == [("start", 0), ("early", 5)]


def test_a_change_of_settings_is_measured_at_once_and_soon_again(make_trainer: Make) -> None:
    first = make_trainer(LONGER, name="cut", resume=True)
    stop_after(first, 7)
    with pytest.raises(Stopped):
        first.run()
    again = make_trainer(LONGER | {"LR": "1e-4"}, name="cut", resume=True)
    again.run()
    assert measured(again)[1:5] == [("early", 5), ("changed", 7), ("early", 12), ("regular", 17)]


def test_while_the_student_becomes_ternary_the_first_evaluation_after_it_counts(make_trainer: Make) -> None:
    trainer = make_trainer(LONGER | {"BUDGET_TOKENS": "9000", "QUANT_RAMP_FRACTION": "0.1"})
    trainer.run()
    (start, ternary, early, *_) = measured(trainer)
    assert (start[0], ternary[0], early[0]) == ("start", "ternary", "early")
    assert early[1] - ternary[1] == 5 < ternary[1]
