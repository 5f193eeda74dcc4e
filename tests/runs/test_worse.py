"""A training that has made its student worse than it was before the first step."""

import pytest

from bitnet_core.runs.finding import Finding
from bitnet_core.runs.health import train_health
from bitnet_core.runs.learning import finished
from bitnet_core.runs.stage_health import health
from bitnet_core.runs.whole_training import continued
from tests.runs.training import PLAN, Training


def _to(*losses: float) -> Training:
    """Ten steps before each of these held-out losses but the first, which is that before the first step."""
    training = Training().evaluate(losses[0])
    for loss in losses[1:]:
        training.steps(10).evaluate(loss)
    return training


def _under(training: Training, rate: float, *losses: float) -> Training:
    """It goes on under another learning rate; the first of these is measured before the next step."""
    told = {"step": training.step, "seen_tokens": training.step * 10}
    training.emit("changed", **told, before={"LR": 0.003}, after={"LR": rate})
    for place, loss in enumerate(losses):
        training.steps(0 if place == 0 else 10).evaluate(loss, "regular" if place else "changed")
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
        ((12.36, 70.0, 12.4), "good", "Healthy: held-out "),
        ((12.36, 12.3), "good", "Healthy: held-out "),
    ],
)
def test_a_student_that_is_worse_than_at_the_start_is_never_called_healthy(losses, level: str, told: str):
    found = _to(*losses).said()[0]
    assert (found.level, found.words[: len(told)]) == (level, told)
    assert ("LR" in found.advice) is (level != "good")


def test_a_loss_that_climbs_before_it_is_measured_is_not_too_early_to_tell():
    def said(training: Training, *climbs: float) -> Finding:
        for ce in climbs:
            training.steps(1, ce=ce)
        return training.said()[0]

    advice = "LR is probably too large: stop, lower it and begin again."
    words = "Diverging: CE rose from 5.10 at step 1 to 63.4 at step 3."
    assert said(Training().evaluate(5.5), 5.1, 56.5, 63.4) == Finding("bad", words, advice)
    assert said(Training().evaluate(5.5), 5.1, 56.5, 5.0, 63.4).words.startswith("Too early to tell")
    assert said(Training().evaluate(5.5), 5.1, 9.9, 10.1, 10.1).words.startswith("Too early to tell")
    ramp = Training().steps(1, ce=5.1, quantized_share=0.1).steps(2, ce=60.0, quantized_share=0.2)
    assert "Diverging" not in ramp.said()[0].words
    flipped = Training().steps(1, ce=5.1).emit("flip", step=1, seen_tokens=10)
    assert "Diverging" not in said(flipped, 60.0, 60.0).words


def test_a_loss_that_a_flip_raised_is_told_as_the_flips():
    training = Training().evaluate(6.0).steps(80).evaluate(5.0, "before flip").emit("flip", step=80, seen_tokens=800)
    training.evaluate(6.5, "after flip").steps(3, activation_bits=4)
    assert all("at the start" not in one.words for one in training.said())


def test_what_was_measured_later_than_before_the_first_step_is_no_start():
    assert Training().steps(10).evaluate(5.0).steps(10).evaluate(6.0).said()[0].level == "calm"


@pytest.mark.parametrize(
    ("losses", "words", "advice"),
    [
        (
            (7.78, 6.54),
            "Recovering since LR 3e-4 at step 10: held-out 7.78 → 6.54, still above 5.64 at the start.",
            "",
        ),
        (
            (7.78,),
            "Worse than at the start: held-out 7.78 at step 10, 5.64 before the first step.",
            "The next evaluation tells whether LR 3e-4 helps.",
        ),
        (
            (),
            "Worse than at the start: held-out 7.61 at step 10, 5.64 before the first step.",
            "The next evaluation tells whether LR 3e-4 helps.",
        ),
        (
            (7.78, 7.79),
            "Worse than at the start: held-out 7.79 at step 20, 5.64 before the first step.",
            "Lower LR if it stays so.",
        ),
        (
            (70.0, 13.0),
            "Recovering since LR 3e-4 at step 10: held-out 70.0 → 13.0, still above 5.64 at the start.",
            "",
        ),
    ],
)
def test_after_a_change_of_settings_a_worse_student_is_judged_from_there(losses, words: str, advice: str):
    assert _under(_to(5.64, 7.61), 3e-4, *losses).said()[0] == Finding("warn", words, advice)


def test_rises_before_a_change_of_settings_are_not_told_after_it():
    training = _to(5.0, 5.0, 5.01, 5.03, 5.05)
    assert "has risen for 3 evaluations" in training.said()[0].words
    assert "has risen" not in _under(training, 3e-4, 5.06).said()[0].words


def test_a_resumed_run_knows_what_was_measured_at_the_change():
    before, after = _to(5.64, 7.61), Training()
    after.step = 10
    whole = continued(before.signs.view(), _under(after, 3e-4, 7.78).signs.view(), 100)
    assert whole.changed is not None and whole.changed.measured is not None and whole.changed.measured.loss == 7.78
    last = Training()
    last.step = 20
    for _ in range(20):
        last.steps(1).evaluate(7.5)
    whole = continued(_under(_to(5.64, 7.61), 3e-4, 7.78, 7.7).signs.view(), last.signs.view(), 200)
    assert whole.changed is not None and whole.changed.measured is not None and whole.changed.measured.loss == 7.78


def _resumed(rate: float, *losses: float, before: tuple[float, ...]) -> tuple[Finding, ...]:
    """A training that was stopped and goes on from its last checkpoint under another rate, by another run."""
    earlier, later = _to(*before), Training()
    later.step = earlier.step
    view = _under(later, rate, *losses).steps(3).signs.view()
    return train_health(continued(earlier.steps(4).signs.view(), view, later.step * 10), PLAN)


def test_a_resumed_run_is_not_judged_by_what_was_measured_under_the_old_settings():
    (said,) = _resumed(3e-2, 5.165, before=(6.0, 5.165))
    assert (said.level, said.words[:18]) == ("calm", "Too early to tell:")
    assert _resumed(3e-2, 5.165, 5.1, before=(6.0, 5.165))[0].level == "good"
    twice = _resumed(3e-4, 9.0, before=(3.0, 9.0))
    advice = "The next evaluation tells whether LR 3e-4 helps."
    assert twice == (Finding("warn", "Ruined: held-out 9.00 at step 10, 3.00 before the first step.", advice),)
    assert "too large" in _resumed(3e-4, 9.0, 9.0, before=(3.0, 9.0))[0].advice


def test_a_change_that_was_made_twice_at_one_place_counts_from_the_last_time():
    earlier, later = _under(_to(6.0, 5.165), 3e-2, 5.165).steps(4), Training()
    later.step = 10
    view = _under(later, 1e-3, 5.165).steps(3).signs.view()
    assert train_health(continued(earlier.signs.view(), view, 100), PLAN)[0].words[:18] == "Too early to tell:"


def test_what_a_change_measured_is_not_compared_across_a_flip():
    training = _under(_to(3.0, 9.0), 3e-4, 9.0).evaluate(9.0, "before flip")
    training.emit("flip", step=10, seen_tokens=100).evaluate(8.0, "after flip")
    assert all("Recovering since" not in one.words for one in training.said())


def test_the_end_of_a_training_that_recovered_does_not_advise_what_was_done():
    (said,) = finished(_under(_to(5.64, 7.61), 3e-4, 7.78, 6.54).signs.view())
    words = "Done: held-out rose from 5.64 to 6.54, best at the start; since LR 3e-4 at step 10 it fell from 7.78."
    assert said == Finding("warn", words, "To train from the start under these settings may help.")
    (said,) = finished(_under(_to(5.64, 5.165), 3e-2, 5.165, 5.38).signs.view())
    words = "Done: held-out fell from 5.64 to 5.38, best 5.17 at step 10; since LR 0.03 at step 10 it rose from 5.17."
    assert (said.level, said.words) == ("warn", words) and "a lower LR" in said.advice
    (said,) = finished(_under(_to(5.64, 5.165), 3e-4, 5.165, 5.0).signs.view())
    assert said == Finding("good", "Done: held-out fell from 5.64 to 5.00.")
    (said,) = finished(_to(5.64, 5.0, 7.61).signs.view())
    assert said.words == "Done: held-out rose from 5.64 to 7.61, best 5.00 at step 10."
    assert "a lower LR" in said.advice


def test_a_training_that_was_stopped_keeps_what_was_known_of_it():
    def said(training: Training, state: str = "cancelled") -> tuple[Finding, ...]:
        return health("train", state, training.signs.view(), PLAN)

    (risen,) = said(_to(5.64, 7.61))
    assert (risen.level, risen.words) == (
        "warn",
        "So far the held-out loss rose from 5.64 to 7.61, best at the start.",
    )
    assert "a lower LR" in risen.advice
    (fallen,) = said(_to(5.64, 5.0), "failed")
    assert fallen == Finding("calm", "So far the held-out loss fell from 5.64 to 5.00.")
    (changed,) = said(_under(_to(5.64, 7.61), 3e-4, 7.78, 6.54), "interrupted")
    assert "; since LR 3e-4 at step 10 it fell from 7.78." in changed.words
    assert said(_to(5.64)) == said(Training()) == ()
    (ruined,) = said(_to(5.43, 12.2))
    assert ruined.level == "bad" and ruined.words.startswith(
        "Ruined: so far the held-out loss rose from 5.43 to 12.2"
    )
    assert ruined.advice == "Begin again from step 0 with a lower LR (RESUME_STEP=0)."
    from_model = _under(_to(5.43, 12.2), 3e-4, 12.2, 8.6).emit("checkpoint", step=0)
    (lowered,) = said(from_model)
    assert (lowered.level, lowered.advice) == ("bad", "Begin again from step 0 (`bitnet train --from 0`).")
    assert "an earlier checkpoint" in said(_to(5.43, 5.0, 6.0))[0].advice
    # The trainer's own sentence says it all, with its cure.
    assert health("train", "failed", _to(5.43, 12.2).signs.view(), PLAN, diverged=True) == ()


def test_fewer_epochs_are_no_advice_to_a_training_of_less_than_one():
    training = _to(5.64, 7.61)
    for epochs, fewer in ((3.0, True), (0.58, False)):
        training.emit("budget", tokens=1000, epoch_tokens=500, epochs=epochs, flip_at_tokens=900)
        (said,) = finished(training.signs.view())
        assert ("ewer epochs" in said.advice, "lower LR" in said.advice) == (fewer, True)


def test_a_stop_after_the_flip_blames_no_setting():
    training = _to(6.0, 5.0).evaluate(5.0, "before flip").emit("flip", step=10, seen_tokens=100)
    training.evaluate(6.5, "after flip")
    (said,) = health("train", "cancelled", training.signs.view(), PLAN)
    assert said == Finding("calm", "So far the held-out loss is 6.50 after the flip, 5.00 before it.")


@pytest.mark.parametrize(
    ("losses", "budget", "level", "begins"),
    [
        ((5.6, 6.4), 1000, "calm", "So far the"),
        ((5.6, 6.4, 6.9, 7.2), 1000, "warn", "Not recovered from the flip: so far the"),
        ((5.6, 6.4), 140, "warn", "Not recovered from the flip: so far the"),
        ((5.6, 6.4, 9.1, 9.8), 1000, "bad", "Ruined: so far the"),
    ],
)
def test_a_stop_long_after_the_flip_or_far_above_is_not_calm(losses, budget: int, level: str, begins: str):
    training = _to(5.43, 4.88).evaluate(4.88, "before flip").emit("flip", step=10, seen_tokens=100)
    training.emit("budget", tokens=budget, epoch_tokens=budget, epochs=1.0, flip_at_tokens=100)
    for place, loss in enumerate(losses):
        training.steps(10 if place else 0, activation_bits=4).evaluate(loss, "checkpoint" if place else "after flip")
        training.steps(10 if place == len(losses) - 2 and budget < 200 else 0)
    (said,) = health("train", "cancelled", training.signs.view(), PLAN)
    assert (said.level, said.words.startswith(begins)) == (level, True)
    assert f"{losses[-1]:.2f} after the flip, 4.88 before it." in said.words
    assert ("before the flip (`bitnet train --from STEP`)" in said.advice) == (level != "calm")
