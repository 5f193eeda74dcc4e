"""A training that has made its student worse than it was before the first step."""

import pytest

from tests.runs.training import Training


def _to(*losses: float) -> Training:
    """Ten steps before each of these held-out losses but the first, which is that before the first step."""
    training = Training().evaluate(losses[0])
    for loss in losses[1:]:
        training.steps(10).evaluate(loss)
    return training


@pytest.mark.parametrize(
    ("losses", "level", "told"),
    [
        ((12.36, 70.0), "bad", "Ruined: held-out 70.0 at step 10, 12.4 before the first step."),
        (
            (12.36, 70.0, 13.55),
            "warn",
            "Worse than at the start: held-out 13.6 at step 20, 12.4 before the first step.",
        ),
        ((12.36, 70.0, 12.4), "good", "Healthy. Held-out "),
        ((12.36, 12.3), "good", "Healthy. Held-out "),
    ],
)
def test_a_student_that_is_worse_than_at_the_start_is_never_called_healthy(losses, level: str, told: str):
    found = _to(*losses).said()[0]
    assert (found.level, found.words[: len(told)]) == (level, told)
    assert ("LR" in found.advice) is (level != "good")


def test_a_loss_that_a_flip_raised_is_told_as_the_flips():
    training = Training().evaluate(6.0).steps(80).evaluate(5.0, "before flip").emit("flip", step=80, seen_tokens=800)
    training.evaluate(6.5, "after flip").steps(3, activation_bits=4)
    assert all("at the start" not in one.words for one in training.said())


def test_what_was_measured_later_than_before_the_first_step_is_no_start():
    assert Training().steps(10).evaluate(5.0).steps(10).evaluate(6.0).said()[0].level == "calm"
