"""A training that asks its teacher at every step: what it is asked, that it learns, and that it resumes exactly."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitnet_core.errors import Stopped
from bitnet_core.model.student import Student
from bitnet_core.traces.examples import Example, collate_rows
from bitnet_core.training.online import OnlineTeacher, one_a_row, whole
from tests.training.conftest import StageTrainer, events, make_sequence
from tests.training.test_trainer import FLIPPING, stop_after, timeless

Make = Callable[..., StageTrainer]


def teacher_of(student: Student, identity: str = "copy") -> OnlineTeacher:
    """The student as it is now, as a teacher."""
    fixed = copy.deepcopy(student)

    @torch.no_grad()
    def states(ids_SL: Tensor) -> Tensor:
        return fixed(ids_SL)

    return OnlineTeacher(identity, states, fixed.output_weight.detach(), eos_id=0)


def another(student: Student, seed: int = 5) -> OnlineTeacher:
    """A teacher of the same shape with other, sharper weights."""
    other = copy.deepcopy(student)
    other.reset_parameters(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        other.output_weight.mul_(20)
    return teacher_of(other, f"another {seed}")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=1, max_size=3), min_size=1, max_size=4
    )
)
def test_each_sequence_is_read_alone(rows: list[list[tuple[int, int]]]) -> None:
    """The teacher's states at the supervised positions are those of each sequence by itself, in the same order."""
    sizes = iter(range(100))
    examples = [
        [
            Example(make_sequence(next(sizes), prompt=prompt, completion=answer), prompt, answer)
            for prompt, answer in row
        ]
        for row in rows
    ]

    def states(ids_SL: Tensor) -> Tensor:
        """A sum over everything before and at a position, so that a neighbour's ids would show."""
        places = torch.arange(1, ids_SL.shape[1] + 1)
        return torch.stack((((ids_SL + 1) * places).cumsum(1), places.expand_as(ids_SL)), dim=2).double()

    batch = collate_rows(examples)
    teacher = OnlineTeacher("", states, torch.ones((3, 2), dtype=torch.float64), 0)
    wanted: list[Tensor] = []
    for one in (one for row in examples for one in row):
        ids = np.concatenate((one.sequence.prompt_ids_P, one.sequence.completion_ids_C[:-1])).astype(np.int64)
        wanted.append(states(torch.from_numpy(ids)[None])[0, one.prompt - 1 :])
    assert torch.equal(teacher.of(batch).states_NE, torch.cat(wanted))
    ids_SL, _ = one_a_row(batch)
    assert ids_SL.shape[0] == sum(map(len, rows)) or batch.segments_BT is None


def test_every_supervised_position_counts() -> None:
    sequence = make_sequence(1)
    batch = whole(collate_rows([[Example(sequence, 6, 14)]]))
    assert batch.targets.kd_valid_N.all()
    assert batch.targets.topk_ids_NK.shape == (14, 0)
    assert (batch.counts.kd, batch.counts.ce, batch.counts.format) == (14, 14, 3)


def test_a_student_that_is_its_teacher_has_no_divergence(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "1"}, make_teacher=teacher_of)
    trainer.run()
    (first, *_) = [event for event in events(trainer, "metric") if "loss" in event]
    start = trainer.state.evaluations[0]
    for kl, agreement in ((first["kl"], first["agreement"]), (start["heldout_kl"], start["heldout_agreement"])):
        assert abs(kl) < 1e-5
        assert agreement == pytest.approx(1)


def test_it_learns_what_the_teacher_says_and_not_what_the_traces_say(make_trainer: Make) -> None:
    values = {"TOTAL_STEPS": "24", "SCHEDULER_TMAX": "24", "KD_CE_WEIGHT": "0", "FORMAT_LOSS_WEIGHT": "0"}
    trainer = make_trainer(values, make_teacher=another)
    trainer.run()
    start, end = trainer.state.evaluations[0], trainer.state.evaluations[-1]
    assert end["heldout_kl"] < 0.8 * start["heldout_kl"]
    assert end["heldout_agreement"] > start["heldout_agreement"]


def test_a_resumed_run_is_the_uninterrupted_one(make_trainer: Make) -> None:
    values = FLIPPING | {"GRAD_ACCUM_STEPS": "2", "TOTAL_STEPS": "5"}
    runs = resumed(make_trainer, values, 2, another)
    require_equal(*runs)
    assert runs[0].student.activation_bits == 4


def test_another_teacher_is_another_training(make_trainer: Make) -> None:
    make_trainer({"TOTAL_STEPS": "2"}, name="one", make_teacher=another).run()
    again = make_trainer({"TOTAL_STEPS": "4"}, name="one", make_teacher=teacher_of, resume=True)
    assert again.resumed_from is None
    (alert,) = [one for one in events(again, "alert") if one["code"] == "training_superseded"]
    assert "TRAIN_ONLINE" in alert["message"]


def resumed(make_trainer: Make, values: dict[str, str], stopped: int, teacher: Any) -> Sequence[StageTrainer]:
    """A whole training, and the two parts of the same one that is stopped in between."""
    whole_run = make_trainer(values, name="whole", make_teacher=teacher)
    whole_run.run()
    first = make_trainer(values, name="cut", make_teacher=teacher)
    stop_after(first, stopped)
    with pytest.raises(Stopped):
        first.run()
    second = make_trainer(values, name="cut", make_teacher=teacher, resume=True)
    assert second.resumed_from is not None
    second.run()
    return whole_run, first, second


def require_equal(whole_run: StageTrainer, first: StageTrainer, second: StageTrainer) -> None:
    """Bit for bit: weights, moments, counters, figures."""
    assert whole_run.state.seen_tokens == second.state.seen_tokens
    for name, tensor in whole_run.student.state_dict().items():
        assert torch.equal(tensor, second.student.state_dict()[name]), name
    ours, theirs = (one.stepper.optimizer.state_dict()["state"] for one in (whole_run, second))
    assert all(torch.equal(state[key], theirs[index][key]) for index, state in ours.items() for key in state)
    said = timeless(events(first, "metric") + events(second, "metric"))
    assert said == timeless(events(whole_run, "metric"))
