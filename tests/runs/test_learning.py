"""A student that has learnt no more than a trivial one is not called healthy, and not too early."""

import pytest

from bitnet_core.runs.finding import Finding
from bitnet_core.runs.stage_health import health
from tests.runs.training import PLAN, Training

CHANCE = {"heldout_agreement_commonest_token": 0.062}


def _evaluated(training: Training, agreement: float, **more: float) -> Training:
    return training.emit(
        "metric", step=training.step, seen_tokens=training.step * 10, when="checkpoint",
        heldout_loss=6 - 0.01 * training.step, heldout_agreement=agreement, **more,
    )  # fmt: skip


def _said(training: Training, state: str) -> tuple[Finding, ...]:
    return health("train", state, training.signs.view(), PLAN)


LITTLE = "Agreement is only 4.1%: always saying the most common token reaches 6.2%."


@pytest.mark.parametrize(("agreement", "little"), [(0.041, True), (0.062, True), (0.07, False)])
def test_a_finished_training_says_what_its_student_agrees_on_if_that_is_chance(agreement: float, *, little: bool):
    training = _evaluated(Training(), 0.0, **CHANCE).steps(90)
    found = _said(_evaluated(training, agreement, **CHANCE), "succeeded")
    assert found[0].words == "Done: held-out fell from 6.00 to 5.10."
    assert [one.level for one in found] == (["warn", "warn"] if little else ["good"])
    if agreement < 0.05:
        assert found[1].words == LITTLE


def test_a_training_of_an_older_version_tells_chance_with_its_table():
    training = _evaluated(_evaluated(Training(), 0.0).steps(90), 0.041)
    assert len(_said(training, "succeeded")) == 1
    columns = ["when", "step", "seen tokens", "bits", "held-out loss", "KL", "CE", "top-1 agreement"]
    training.emit("table", name="training", columns=columns, rows=[["commonest token", *[None] * 6, 0.062]])
    assert _said(training, "succeeded")[1].words == LITTLE


def test_an_active_training_is_judged_so_only_after_its_first_part():
    training = _evaluated(Training(), 0.0, **CHANCE).steps(20)
    assert _said(_evaluated(training, 0.01, **CHANCE), "running")[0].words.startswith("Healthy:")
    later = _evaluated(training.steps(10), 0.041, **CHANCE)
    (found,) = _said(later, "running")
    assert (found.level, found.words) == ("warn", LITTLE)
    assert found.advice == "If it stays so: more budget or answers, or another STUDENT_INIT."
    assert len(found.words) <= 76 and len(f"{found.advice} (6 Config)") <= 76, "a line for each at 80 columns"
    assert _said(_evaluated(later.steps(5), 0.3, **CHANCE), "running")[0].level == "good"


def test_sequences_that_cut_many_answers_are_told_at_the_end():
    training = _evaluated(_evaluated(Training(), 0.1, **CHANCE).steps(90), 0.5, **CHANCE)
    training.emit("alert", severity="warning", code="completions_cut", message="Cut 27.", advice="Raise it.")
    last = _said(training, "succeeded")[-1]
    assert (last.level, last.words, last.advice, last.code) == ("warn", "Cut 27.", "Raise it.", "completions_cut")
