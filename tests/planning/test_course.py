"""How a training ends: the trainer's own rule, step by step, is the slow twin."""

import math

from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import UsageError
from bitnet_core.planning.course import course
from bitnet_core.planning.teacher import teacher_plan
from bitnet_core.settings.values import CollectOptions, FlipOptions, Sampling, TrainOptions
from bitnet_core.teachers.prices import Price
from bitnet_core.training.flip import layer_bits
from bitnet_core.training.ramp import require_an_end

OPTIONS = st.builds(
    lambda steps, budget, fraction: TrainOptions(
        total_steps=steps, flip=FlipOptions(budget_tokens=budget, fraction=fraction)
    ),
    st.none() | st.integers(1, 60),
    st.integers(1, 3000),
    st.sampled_from([0.0, 0.29, 0.5, 0.9, 1.0]),
)


def _walked(options: TrainOptions, supervised: int) -> tuple[str, int, int, int | None]:
    """What ends it, steps, tokens, and the first step at 4 bits."""
    step = seen = 0
    flip_step = None
    while (options.total_steps is None or step < options.total_steps) and seen < options.flip.budget:
        if flip_step is None and layer_bits(options.flip, seen, 1) == (4,):
            flip_step = step + 1
        step, seen = step + 1, seen + supervised
    return "BUDGET_TOKENS" if seen >= options.flip.budget_tokens else "TOTAL_STEPS", step, seen, flip_step


@given(OPTIONS, st.integers(1, 200))
def test_a_known_number_of_tokens_decides_everything(options: TrainOptions, supervised: int) -> None:
    found = course(options, supervised, exact=True)
    assert (found.ended_by, found.steps, found.seen_tokens, found.flip_step) == _walked(options, supervised)
    assert found.flip_reached == (found.flip_step is not None)
    assert {"BUDGET_TOKENS": "the budget", "TOTAL_STEPS": "TOTAL_STEPS"}[str(found.ended_by)] in found.words


@given(st.none() | st.integers(1, 60), st.integers(1, 200))
def test_before_there_are_traces_epochs_tell_no_number(steps: int | None, most: int) -> None:
    found = course(TrainOptions(total_steps=steps), most, exact=False)
    assert found.words.startswith("4 epochs of what will be collected end it")
    once = course(TrainOptions(total_steps=steps, flip=FlipOptions(budget_epochs=1)), most, exact=False)
    assert once.words.startswith("1 epoch of what will be collected ends it")
    assert (found.steps, found.seen_tokens, found.flip_step) == (None, None, None)
    assert found.ended_by == (None if steps else "BUDGET_TOKENS")


@given(st.integers(1, 50_000), st.integers(3, 60))
def test_the_default_training_reaches_its_flip(supervised: int, steps_of_an_epoch: int) -> None:
    flip = FlipOptions().decided(supervised * steps_of_an_epoch)
    assert flip.budget == 4 * supervised * steps_of_an_epoch
    found = course(TrainOptions(flip=flip), supervised, exact=True)
    assert found.ended_by == "BUDGET_TOKENS"
    assert found.flip_reached


@given(OPTIONS, st.integers(1, 200), st.data())
def test_an_upper_bound_never_says_too_much(options: TrainOptions, most: int, data: st.DataObject) -> None:
    found = course(options, most, exact=False)
    ended_by, steps, _seen, flip_step = _walked(options, data.draw(st.integers(1, most)))
    assert found.ended_by in (None, ended_by)
    assert found.steps in (None, steps)
    assert found.flip_reached in (None, flip_step is not None)


@given(OPTIONS, st.sampled_from([0.0, 0.1, 0.29, 0.5]), st.integers(1, 200))
def test_it_says_when_a_ramp_is_over_and_when_training_will_refuse_it(
    options: TrainOptions, ramp: float, supervised: int
) -> None:
    flip = FlipOptions(budget_tokens=options.flip.budget, fraction=1.0, quant_ramp_fraction=ramp)
    options = TrainOptions(total_steps=options.total_steps, flip=flip)
    words = course(options, supervised, exact=True).words
    try:
        require_an_end(options, supervised * (math.inf if options.total_steps is None else options.total_steps))
    except UsageError:
        assert words.endswith("(QUANT_RAMP_FRACTION), so training refuses to begin")
    else:
        said = f"; the student is ternary from {flip.ternary_at:,} tokens on"
        assert words.endswith(said) if ramp else "ternary" not in words
    assert (
        "ternary after 0.5 of the budget"
        in course(TrainOptions(flip=FlipOptions(quant_ramp_fraction=0.5)), supervised, exact=False).words
    )


COLLECT = CollectOptions(answers=5, sampling=Sampling(max_tokens=100))
PROMPTS = [[{"role": "user", "content": "twelve bytes"}], [{"role": "user", "content": "ä"}]]


def test_without_answers_the_plan_is_an_upper_bound() -> None:
    found = teacher_plan(COLLECT, PROMPTS, None, Price(1.0, 10.0, "2026-01-01", ""))
    assert found.completion_tokens == 500
    assert found.prompt_tokens == 3 * 12 + 2 * 2 + 5 * (32 + 128)
    assert found.usd == found.prompt_tokens / 1e6 + 500 * 10 / 1e6
    assert "at most" in found.origin and found.price_from == "price file, 2026-01-01"


def test_answers_give_their_means_and_no_price_no_dollars() -> None:
    known = {"prompt_tokens": 20.0, "completion_tokens": 50.5, "answers": 3.0}
    found = teacher_plan(COLLECT, PROMPTS, known, None)
    assert (found.prompt_tokens, found.completion_tokens, found.usd) == (100, 252, None)
    assert "KD_PRICES_FILE" in found.price_from
