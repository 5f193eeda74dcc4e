"""Steps whose answers the student writes: which they are, what it writes, what counts, and that it resumes."""

from collections.abc import Callable

import pytest
import torch

from bitnet_core.errors import UsageError
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Example, Examples
from bitnet_core.training.on_policy import Author
from tests.training.conftest import VOCAB, StageTrainer, events
from tests.training.test_online import another, require_equal, resumed, teacher_of

Make = Callable[..., StageTrainer]
ON = {"ON_POLICY_FRACTION": "0.5", "BUDGET_TOKENS": "700", "FLIP_FRACTION": "0.4", "TOTAL_STEPS": "6"}


def test_a_share_of_the_steps_is_chosen_by_seed_and_number(make_trainer: Make) -> None:
    student = make_trainer().student
    author = Author(student, 0.3, 7, 0)
    chosen = [step for step in range(400) if author.of_step(step) is not None]
    assert 90 < len(chosen) < 150
    assert chosen == [step for step in range(400) if Author(student, 0.3, 7, 0).of_step(step) is not None]
    assert chosen != [step for step in range(400) if Author(student, 0.3, 8, 0).of_step(step) is not None]
    assert all(Author(student, 1.0, 7, 0).of_step(step) is not None for step in range(20))


def test_it_writes_answers_to_the_same_prompts_no_longer_than_those_they_replace(
    make_trainer: Make, sequences: list[TraceSequence]
) -> None:
    student, examples = make_trainer().student, Examples(sequences[:6], 20)
    rows = [[examples[0], examples[1]], [examples[2]], [examples[3], examples[4], examples[5]]]

    def written(step: int, eos_id: int) -> list[list[Example]]:
        rewrite = Author(student, 1.0, 7, eos_id).of_step(step)
        assert rewrite is not None
        return [list(row) for row in rewrite(rows)]

    first = written(3, -1)
    for before, after in zip((e for row in rows for e in row), (e for row in first for e in row), strict=True):
        assert after.sequence.prompt_ids_P is before.sequence.prompt_ids_P
        assert (after.prompt, after.supervised) == (before.prompt, before.supervised)
        assert after.sequence.completion_ids_C.min() >= 0 and after.sequence.completion_ids_C.max() < VOCAB
    ids = [[one.sequence.completion_ids_C.tolist() for one in row] for row in first]
    assert ids == [[one.sequence.completion_ids_C.tolist() for one in row] for row in written(3, -1)]
    assert ids != [[one.sequence.completion_ids_C.tolist() for one in row] for row in written(4, -1)]
    end = ids[0][1][1]  # had this token ended answers, the second one would have ended there
    (_, ended), *_ = written(3, end)
    assert ended.supervised == ids[0][1].index(end) + 1


@pytest.mark.parametrize("divergence", ["reverse", "forward"])
def test_a_resumed_run_is_the_uninterrupted_one(make_trainer: Make, divergence: str) -> None:
    """Also where several batches make a step, threads prepare them, and the flip comes in between."""
    values = ON | {"ON_POLICY_KL": divergence, "LOG_INTERVAL": "1"}
    values |= (
        {"GRAD_ACCUM_STEPS": "2", "NUM_WORKERS": "2", "TRAIN_BATCH_SIZE": "2"} if divergence == "forward" else {}
    )
    whole, first, second = resumed(make_trainer, values, 3, another)
    require_equal(whole, first, second)
    steps = [event for event in events(whole, "metric") if "loss" in event]
    own = [event for event in steps if "own_text_kl" in event]
    assert 0 < len(own) < len(steps)
    assert all("ce" not in event and event["loss"] == pytest.approx(event["own_text_kl"]) for event in own)
    assert all("ce" in event for event in steps if event not in own)
    (flip,) = events(whole, "flip")
    assert flip["seen_tokens"] >= 280


def test_a_student_that_is_its_teacher_has_no_divergence_on_its_own_text(make_trainer: Make) -> None:
    trainer = make_trainer({"TOTAL_STEPS": "1", "ON_POLICY_FRACTION": "1"}, make_teacher=teacher_of)
    trainer.run()
    (first, *_) = [event for event in events(trainer, "metric") if "loss" in event]
    assert abs(first["own_text_kl"]) < 1e-5
    assert first["loss"] == pytest.approx(first["own_text_kl"])
    assert first["seen_tokens"] == trainer.state.seen_tokens > 0


def test_it_learns_from_the_scores_of_its_own_text(make_trainer: Make) -> None:
    values = {"TOTAL_STEPS": "16", "SCHEDULER_TMAX": "16", "ON_POLICY_FRACTION": "1", "LR": "1e-2"}
    trainer = make_trainer(values, make_teacher=another)
    trainer.run()
    own = [event["own_text_kl"] for event in events(trainer, "metric") if "own_text_kl" in event]
    assert own[-1] < 0.8 * own[0]


def test_without_a_teacher_beside_it_nothing_scores_what_the_student_writes(make_trainer: Make) -> None:
    with pytest.raises(
        UsageError, match=r"ON_POLICY_FRACTION is 0\.5, .*; set TRAIN_ONLINE=1, or ON_POLICY_FRACTION=0\."
    ):
        make_trainer({"ON_POLICY_FRACTION": "0.5"})


def test_what_it_writes_does_not_touch_the_random_state_of_torch(make_trainer: Make) -> None:
    trainer = make_trainer({"ON_POLICY_FRACTION": "1"}, make_teacher=teacher_of)
    before = torch.get_rng_state()
    trainer.sampler.next(Author(trainer.student, 1.0, 1, 0).of_step(0))
    assert torch.equal(before, torch.get_rng_state())
