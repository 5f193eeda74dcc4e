"""How a run is doing, in words: each thing that can be wrong, and that nothing else is said to be."""

import itertools
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.runs import health as limits
from bitnet_core.runs import report_health
from bitnet_core.runs.health import Machine, train_health
from bitnet_core.runs.trend import OLD
from bitnet_core.runs.vitals import EVALUATIONS, Plan, VitalSigns
from bitnet_core.runs.whole_training import continued
from tests.builders import event
from tests.runs.training import PLAN, Training, falling


def test_a_budget_in_epochs_is_the_one_that_the_run_tells():
    epochs = Plan.of({"BUDGET_TOKENS": None, "BUDGET_EPOCHS": 4, "FLIP_FRACTION": 0.8, "FLIP_POLICY": "hard",
                      "FLIP_RAMP_FRACTION": 0.05, "TOTAL_STEPS": 100})  # fmt: skip
    assert epochs.flip is not None and epochs.decided(None).flip is None
    assert "flip" not in falling().said(plan=epochs)[0].words
    told = Training().emit("budget", tokens=1000, epoch_tokens=250, epochs=4.0, flip_at_tokens=800)
    for _ in range(4):
        told.steps(10).evaluate()
    assert told.said(plan=epochs) == falling().said() and "flip" in told.said(plan=epochs)[0].words


def _worst(training: Training, **facts) -> str:
    return training.said(**facts)[0].words


def test_a_loss_that_rises_as_the_student_becomes_ternary_is_no_trouble():
    training = Training()
    for quarter in range(4):
        training.steps(10, quantized_share=quarter / 4).emit(
            "metric", step=training.step, seen_tokens=training.step * 10, heldout_loss=2.0 + quarter,
            quantized_share=quarter / 4,
        )  # fmt: skip
    (said,) = training.said()
    assert said.words.startswith("Healthy: 75% of the way to ternary weights, gradient steady, flip in")
    assert training.signs.view().best is None
    training.steps(10, quantized_share=1.0).evaluate(5.0).steps(10).evaluate(4.5)
    found = training.signs.view()
    assert [one.loss for one in found.evaluations] == [5.0, 4.5]
    assert "held-out falls" in training.said()[0].words.lower()


def test_a_healthy_training_says_how_it_falls_and_when_flip_and_end_are_due():
    (said,) = falling().said()
    assert said.level == "good"
    assert said.words == "Healthy: held-out falls 0.6 a minute, gradient steady, flip in 40 s, done in 1 min."


def test_the_fall_from_the_first_weights_is_no_pace():
    training = Training().evaluate(12.36).steps(60).evaluate(6.86)
    assert _worst(training).startswith("Healthy: held-out fell from 12.4 to 6.86, gradient steady, ")
    training.steps(5)
    assert _worst(training).startswith("Healthy: held-out fell from 12.4 to 6.86 by step 60, next at ")
    training.steps(55).evaluate(6.31)
    assert _worst(training).startswith("Healthy: held-out falls 0.6 a minute, ")
    assert _worst(Training().evaluate(5.0).steps(9).evaluate(5.08)).startswith(
        "Unsettled: held-out rose from 5.00 to 5.08"
    )
    assert "held-out level at 5.01" in _worst(Training().evaluate(5.0).steps(9).evaluate(5.01))


def test_what_is_done_between_steps_is_said():
    training = falling()
    said = _worst(training)
    scoring = "scoring held-out traces, 3 of 9 batches"
    training.emit("progress", done=400, total=1000, unit="tokens", eta_s=60.0, label=scoring)
    assert "scoring" not in _worst(deepcopy(training).evaluate(12.0)).casefold(), "its figures end it"
    assert _worst(training).startswith(f"Healthy: {scoring}, held-out falls ")
    training.emit("progress", done=400, total=1000, unit="tokens", eta_s=60.0)
    assert _worst(training) == said
    signs = VitalSigns()
    signs.feed(event("progress", done=0, label=scoring))
    (begun,) = train_health(signs.view(), Plan())
    assert begun.words == f"Now: {scoring}."
    resumed = VitalSigns()
    resumed.feed(event("progress", done=17_545, total=60_000, unit="tokens"))
    assert train_health(resumed.view(), Plan())[0].words == "Now: 17,545/60,000 tokens."


@pytest.mark.parametrize("steps", [1, report_health.USUAL_OF, 60])
def test_before_a_second_held_out_loss_it_is_too_early_to_call_it_healthy(steps: int):
    training = Training().evaluate(12.2, "start").steps(steps)
    (found,) = training.said()
    assert (found.level, found.words.split(", ")[0]) == ("calm", "Too early to tell: held-out 12.2 at step 0")
    assert "calm" not in found.words
    assert "flip in" in found.words
    assert training.evaluate(8.0).said()[0].level == "good"


def test_a_training_without_held_out_prompts_is_judged_by_its_gradient():
    training = Training().steps(report_health.USUAL_OF - 1)
    assert _worst(training).startswith("Too early to tell: no held-out loss yet, flip in")
    assert _worst(training.steps(1)).startswith("Healthy: no held-out loss yet, gradient steady, flip in")


@pytest.mark.parametrize(("norm", "steady"), [(49.9, True), (30.0, True), (24.0, False), (101.0, False)])
def test_a_gradient_is_steady_by_what_is_usual_in_its_own_run(norm: float, steady: bool):
    said = _worst(Training().steps(60, grad_norm=49.9).steps(1, grad_norm=norm))
    assert ("gradient steady" in said) == steady
    assert said.startswith("Healthy: no held-out loss yet, ")


@pytest.mark.parametrize(
    ("evaluated", "steps", "every", "told"),
    [
        (0, 45, 60, "held-out 12.2 at step 0, next at 60,"),
        (0, 60, 60, "held-out 12.2 at step 0, next at the flip,"),  # at step 80
        (0, 60, 90, "held-out 12.2 at step 0, next at the flip,"),
        (0, 60, 70, "held-out 12.2 at step 0, next at 70,"),
        (0, 90, 60, "held-out 12.2 at step 0, next at the end,"),
        (0, 45, None, "held-out 12.2 at step 0,"),
        (45, 0, 60, "held-out 12.2,"),
    ],
)
def test_an_old_evaluation_says_its_step_and_that_of_the_next(evaluated, steps, every, told):
    training = Training().steps(evaluated).evaluate(12.2).steps(steps)
    said = _worst(training, plan=replace(PLAN, evaluates_every=every))
    assert told in said and len(said) <= 76
    assert Plan.of({"CHECKPOINT_INTERVAL": 60}).evaluates_every == 60


@pytest.mark.parametrize(
    ("when", "steps", "told"),
    [
        ("start", 9, "at step 0, next at 10,"),
        ("start", 10, "at step 0, flip"),  # it is being made
        ("checkpoint", 10, "at step 0, next at 30,"),
        ("changed", 2, "at step 0, next at 10,"),
    ],
)
def test_the_next_evaluation_is_the_one_that_the_training_has_told(when, steps, told):
    training = Training().emit(
        "budget",
        tokens=1000,
        epoch_tokens=1000,
        epochs=1.0,
        flip_at_tokens=800,
        evaluates_early_steps=10,
        evaluates_every_steps=30,
    )
    said = _worst(training.evaluate(12.2, when).steps(steps), plan=replace(PLAN, evaluates_every=200))
    assert f"held-out 12.2 {told}" in said


@pytest.mark.parametrize(("falls", "told"), [(0.01, "held-out falls 0.6 a minute"), (0.0, "held-out level at 6.00")])
def test_a_trend_that_much_training_has_followed_says_how_old_it_is(falls: float, told: str):
    training = Training(falls)
    for _ in range(4):
        training.steps(10).evaluate()
    assert _worst(training.steps(int(OLD) - 1)).startswith(f"Healthy: {told}, gradient steady, ")
    assert _worst(training.steps(1)).startswith(f"Healthy: {told}, measured 10 min ago, ")
    assert _worst(training.steps(900)).startswith(f"Healthy: {told}, measured 25 min ago")


def test_a_held_out_loss_that_rises_names_the_checkpoint_to_use():
    training = falling()
    for more in (1, 2):
        training.steps(2).evaluate(5.6 + more / 10)
    assert training.said()[0].level == "good"
    found = training.steps(2).evaluate(5.9).said()[0]
    assert (found.level, found.words) == ("warn", "The held-out loss has risen for 3 evaluations, from 5.60 to 5.90.")
    assert "step 40, the best" in found.advice
    for more in (1, 2, 3):
        training.steps(2).evaluate(6 + more / 10)
    assert training.said()[0].level == "bad"


def test_noise_is_no_rise():
    training = falling()
    for more in range(9):
        training.steps(1).evaluate(5.6 + more / 10_000)
    assert training.said()[0].level == "good"


def test_one_gradient_spike_is_told_and_several_are_a_warning():
    training = falling().steps(1, grad_norm=9.0)
    assert "one gradient spike" in _worst(training)
    found = training.steps(3).steps(1, grad_norm=38.0).said()[0]
    assert found.words == "The gradient norm spiked in 2 of the last 8 reports, to 38.0 (usually 1.00)."
    assert training.steps(report_health.RECENT).said()[0].level == "good"


def test_steps_that_are_not_finite_are_said_once_and_forgotten_later():
    training = falling().steps(1, loss=None, nonfinite=1)
    training.emit(
        "alert", severity="warning", code="nonfinite", message="The loss was not finite.", advice="Lower LR."
    )
    found = training.said()[0]
    assert (found.words, found.advice, found.code) == ("The loss was not finite.", "Lower LR.", "nonfinite")
    assert training.steps(report_health.RECENT, nonfinite=1).said()[0].level == "good"
    assert training.steps(3, nonfinite=4, loss=None).said()[0].level == "bad"


def test_a_speed_that_collapsed_is_told_and_a_slow_first_step_is_not():
    training = Training().evaluate().steps(1, tokens_per_s=0.1).steps(30).evaluate()
    assert training.said()[0].level == "good"
    assert _worst(training.steps(3, tokens_per_s=2.0)) == "Speed has fallen to 2 tokens/s, from 10."


def test_silence_is_a_stall_unless_the_run_is_often_silent():
    assert _worst(falling(), silent=60.0).startswith("Healthy")
    assert _worst(falling(), silent=180.0) == "Stalled: it has reported nothing for 3 min."
    often = falling()
    often.step += 100
    assert _worst(often.steps(1), silent=180.0).startswith("Healthy")
    assert often.said(silent=limits.DEAD_SILENT)[0].level == "bad"


def test_memory_and_disk_that_run_out():
    training = falling().emit("checkpoint", bytes=2_000_000_000)
    assert training.said(Machine(50e9, 100e9, 5e9))[0].level == "good"
    assert _worst(training, machine=Machine(8e9, 100e9, 5e9)) == "Memory is nearly used up."
    assert training.said(Machine(3e9, 100e9, 5e9))[0].level == "bad"
    found = training.said(Machine(50e9, 100e9, 3e9))[0]
    assert (found.level, found.words) == ("warn", "The disk is nearly full: a checkpoint takes 2 GB.")
    assert training.said(Machine(50e9, 100e9, 1e9))[0].level == "bad"


def _flipped() -> Training:
    training = Training().steps(80).evaluate(5.0, "before flip")
    training.emit("flip", step=80, seen_tokens=800, from_bits=8, to_bits=4)
    return training.evaluate(5.4, "after flip")


def test_a_flip_raises_the_loss_and_that_is_no_fault_until_it_is_late():
    measuring = Training().evaluate(6.0).steps(80).evaluate(5.0, "before flip").emit("flip", step=80, seen_tokens=800)
    assert _worst(measuring).startswith("Unsettled by the flip: held-out was 5.00 before the flip, ")
    training = _flipped().steps(5, activation_bits=4).evaluate(5.2)
    (found,) = training.said()
    assert found.level == "calm"
    assert found.words.startswith("Unsettled by the flip: held-out 5.20, 5.00 before it, it falls 2.4 a minute, ")
    assert "flip in" not in found.words
    training.steps(6, activation_bits=4).evaluate(5.1)
    assert _worst(training) == "Not recovered from the flip: held-out 5.10, 5.00 before it."
    assert training.evaluate(4.9).said()[0].level == "good"


@pytest.mark.parametrize("resumed", [False, True])
def test_a_recovery_from_the_flip_is_not_forgotten_after_many_evaluations(resumed: bool):
    whole = _flipped().steps(5, activation_bits=4).evaluate(4.9)
    later = Training() if resumed else whole
    later.step = whole.step
    for _ in range(EVALUATIONS + 1):
        later.steps(1, activation_bits=4).evaluate(5.05)
    vitals = continued(whole.signs.view(), later.signs.view(), 850.0) if resumed else whole.signs.view()
    assert train_health(vitals, PLAN)[0].words.startswith("Healthy: held-out level at 5.05")


def test_a_recovery_in_steps_that_were_lost_does_not_count():
    lost, later = _flipped().steps(5, activation_bits=4).evaluate(4.9), Training()
    later.step = 82
    later.steps(1, activation_bits=4).evaluate(5.2)
    found = continued(lost.signs.view(), later.signs.view(), 820.0)
    assert train_health(found, PLAN)[0].words.startswith("Unsettled by the flip: held-out 5.20")


def test_a_loss_that_stays_at_nothing_is_level():
    assert _worst(Training().evaluate(0.0).steps(20).evaluate(0.0)).startswith("Healthy: held-out level at 0")


@pytest.mark.parametrize(
    ("to", "level", "told"),
    [(5.3, "calm", "Unsettled: held-out rises 0.9 "), (5.02, "good", "Healthy: held-out level at 5.02")],
)
def test_a_loss_that_rises_is_not_called_healthy_unless_it_only_fluctuates(to: float, level: str, told: str):
    (found,) = Training().evaluate(7.0).steps(9).evaluate(5.0).steps(20).evaluate(to).said()
    assert (found.level, found.words[: len(told)]) == (level, told)


def test_steps_that_end_before_the_flip_are_told_and_what_would_reach_it():
    few = Plan(PLAN.flip, 50, PLAN.limits)
    found = falling().said(plan=few)[0]
    assert found.words == (
        "It will never reach its flip: its 50 steps end at about 500 tokens, and the flip is at 800."
    )
    assert "BUDGET_TOKENS to about 500" in found.advice
    none_wanted = Plan.of({"BUDGET_TOKENS": 1000, "FLIP_FRACTION": 1, "FLIP_POLICY": "hard", "TOTAL_STEPS": 50})
    assert falling().said(plan=none_wanted)[0].level == "good"


@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 9), st.integers(0, 500)), max_size=4),
    st.integers(1, 20),
    st.sampled_from([-0.02, 0.0, 0.01]),
)
def test_a_resumed_training_is_judged_as_one_that_was_not(cuts, last, falls):
    """Each run does some steps beyond the checkpoint from which the next one goes on, after a pause."""

    def steps(training: Training, first: int, until: int, pause: float = 0.0) -> VitalSigns:
        for step in range(first, until + 1):
            now, at = 1000.0 + step + pause, {"step": step, "seen_tokens": step * 10}
            figures = {"loss": 2.0, "grad_norm": 30.0 if step % 17 == 0 else 1.0, "activation_bits": 8}
            training.signs.feed(event("metric", t=now, **at, **figures))
            if step == 40:
                training.signs.feed(event("flip", t=now, **at, from_bits=8, to_bits=4))
            if step % 5 == 0:
                training.signs.feed(event("metric", t=now, **at, when="checkpoint", heldout_loss=9 - falls * step))
        return training.signs

    parts, first, pause = [], 1, 0.0
    for kept, lost, more in cuts:
        parts.append((steps(Training(), first, first + kept - 1 + lost, pause).view(), (first + kept - 1) * 10.0))
        first, pause = first + kept, pause + lost + more
    end = first + last
    whole = steps(Training(), first, end, pause).view()
    for part, seen in reversed(parts):
        whole = continued(part, whole, seen)
    alone = steps(Training(), 1, end).view()
    assert [(one.step, one.loss) for one in whole.evaluations] == [(one.step, one.loss) for one in alone.evaluations]
    assert [(one.step, one.grad_norm) for one in whole.reports][-20:] == [
        (one.step, one.grad_norm) for one in alone.reports
    ][-20:]
    for one in ("first", "best", "before_flip", "best_since_flip"):
        assert getattr(getattr(whole, one), "step", None) == getattr(getattr(alone, one), "step", None), one
    assert whole.flip_at == alone.flip_at
    spans = [[two.t - one.t for one, two in itertools.pairwise(found.evaluations)] for found in (whole, alone)]
    assert all(was - one <= 5.0 + len(cuts) for one, was in zip(*spans, strict=True))
    assert all(one <= was for one, was in zip(*spans, strict=True))


def test_the_pace_is_that_since_the_settings_were_changed():
    before, after = falling(), Training(falls=0.001)
    after.step = 40
    changed = {"step": 40, "seen_tokens": 400, "before": {"LR": 1e-3}, "after": {"LR": 1e-4}}
    after.emit("changed", **changed).steps(5)
    whole = continued(before.signs.view(), after.signs.view(), 400.0)
    assert "held-out 5.60 at step 40, " in train_health(whole, PLAN)[0].words
    after.evaluate(5.58).steps(5).evaluate(5.56)
    whole = continued(before.signs.view(), after.signs.view(), 400.0)
    assert train_health(whole, PLAN)[0].words.startswith("Healthy: held-out falls 0.2 a minute, ")
    assert "falls 0.2 a minute" in after.said()[0].words


def test_another_machine_is_no_fall_in_speed_and_a_refused_step_is_told_once():
    before = Training().evaluate().steps(30, tokens_per_s=900.0).evaluate().steps(2, loss=None, nonfinite=1)
    after = Training()
    after.step = 32
    assert train_health(continued(before.signs.view(), after.steps(3).signs.view(), 320.0), PLAN)[0].level == "good"


def test_the_worst_comes_first():
    training = falling().steps(1, grad_norm=9.0).steps(1, grad_norm=9.0)
    assert [one.level for one in training.said(Machine(1e9, 100e9, None))] == ["bad", "warn"]


@pytest.mark.parametrize(("seen", "resumed"), [(0, False), (10, True)])
def test_a_training_that_measures_before_its_second_step_has_gone_on_from_the_first(seen: int, resumed: bool):
    told = {"tokens": 1000, "epoch_tokens": 1000, "epochs": 1.0, "flip_at_tokens": 800}
    begun = Training().emit("budget", seen_tokens=seen, **told)
    begun.emit("metric", step=1, seen_tokens=10, when="changed", heldout_loss=2.0)
    begins = begun.signs.view().begins
    assert begins is not None and begins.resumed == resumed
