"""What the held-out loss is made of, and that its turn is told once."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.runs.trend import RISEN, RISES
from bitnet_core.runs.vitals import VitalSigns
from bitnet_core.settings.values import LossWeights
from bitnet_core.traces.examples import Examples
from bitnet_core.training import heldout, report
from bitnet_core.training.state import TrainState
from tests.builders import event
from tests.training.conftest import VOCAB, make_sequence


@pytest.mark.parametrize(("kd", "ce", "structure"), [(1.0, 0.25, 0.0), (1.0, 0.25, 50.0), (0.5, 2.0, 0.2)])
def test_best_and_shock_rest_on_kl_and_ce_alone(kd: float, ce: float, structure: float) -> None:
    student = Student(
        StudentConfig(
            vocab_size=VOCAB,
            hidden_size=256,
            intermediate_size=256,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=64,
        )
    )
    examples = Examples([make_sequence(place, heldout=True) for place in range(4)], 48)
    figures, _ = heldout.measure(student, examples, LossWeights(kd=kd, ce=ce, format=structure), 2)
    assert figures["heldout_loss"] == pytest.approx(kd * figures["heldout_kl"] + ce * figures["heldout_ce"], rel=1e-5)


def _turns(losses: list[float]) -> list[int]:
    """The places at which RISES rises in a row, by more than a negligible share, become certain; slowly."""

    def risen(end: int) -> bool:
        start = end
        while start > 0 and losses[start - 1] < losses[start]:
            start -= 1
        return end - start >= RISES and losses[end] > losses[start] * (1 + RISEN)

    return [end for end in range(len(losses)) if risen(end) and not (end and risen(end - 1))]


@given(st.lists(st.sampled_from([1.0, 1.001, 1.002, 1.5, 2.0, 3.0, 4.0]), max_size=14))
def test_a_turn_is_told_once_where_it_is_certain(losses: list[float]) -> None:
    told: list[int] = []
    state = TrainState()
    for place, loss in enumerate(losses):
        state.evaluations.append({"when": "checkpoint", "heldout_loss": loss})
        report.warn_if_rising(Reporter(lambda _, place=place: told.append(place)), state)
    assert told == _turns(losses)


@pytest.mark.parametrize("judged_from", [("before flip", "after flip"), ("early", "changed")])
def test_a_rise_before_a_flip_or_a_change_of_settings_is_no_turn(judged_from: tuple[str, str]) -> None:
    told: list[str] = []
    state = TrainState(best={"step": 7, "heldout_loss": 1.0})
    whens = ["start", "checkpoint", *judged_from, "recovery", "recovery", "end"]
    for when, loss in zip(whens, itertools.count(1.0), strict=False):
        state.evaluations.append({"when": when, "heldout_loss": loss})
        report.warn_if_rising(Reporter(lambda event: told.append(event.message)), state)  # type: ignore[attr-defined]
    assert told == [
        "The held-out loss has risen for 3 evaluations, from 4 to 7; the best checkpoint is that of step 7."
    ]


def test_the_table_tells_where_the_training_began_and_was_best() -> None:
    def measured(when: str, step: int, loss: float, **more: float) -> dict[str, object]:
        return {"when": when, "step": step, "seen_tokens": step * 10, "heldout_loss": loss, **more}

    rows = [measured("start", 0, 4.0, quantized_share=0.0), measured("ternary", 5, 12.2), measured("end", 60, 7.0)]
    columns, plain = report.training_table(rows, None)
    assert [row[0] for row in plain] == ["start, quantised 0%", "ternary", "end"], "the end is the lowest"
    rows.insert(2, measured("checkpoint", 40, 6.9))
    columns, told = report.training_table(rows, 0.03)
    assert [row[:2] for row in told[2:4]] == [["lowest", 40], ["end", 60]]
    signs = VitalSigns()
    signs.feed(event("table", name="training", columns=columns, rows=told))
    first, best = signs.view().first, signs.view().best
    assert first and best and (first.step, first.loss, best.step, best.loss) == (5, 12.2, 40, 6.9)
