"""What a training that has ended is said to have reached."""

import math

import pytest

from bitnet_core.runs.stage_health import health
from tests.runs.training import PLAN, Training, falling


def test_a_loss_that_ends_where_it_began_did_not_rise():
    training = falling().steps(5).evaluate(5.901, "end")
    (said,) = health("train", "succeeded", training.signs.view(), PLAN)
    assert said.words == "Done: held-out stayed at 5.90, best 5.60 at step 40."


def test_a_loss_that_rose_is_no_success():
    training = falling().steps(5).evaluate(6.2, "end")
    (said,) = health("train", "succeeded", training.signs.view(), PLAN)
    assert (said.level, said.words) == ("warn", "Done: held-out rose from 5.90 to 6.20, best 5.60 at step 40.")
    assert said.advice


def _resumed_and_finished(*rows: list) -> Training:
    """The last run of a training, which evaluated once; `rows` are those of the table at its end."""
    training = Training()
    training.step = 60
    columns = ["when", "step", "seen tokens", "bits", "held-out loss"]
    return training.evaluate(7.03, "end").emit("table", name="training", columns=columns, rows=list(rows))


def test_a_resumed_training_says_what_all_its_runs_reached():
    end, extras = ["end", 60, 600, 4, 7.03], [["flip shock", 30, 300, None, 0.01], ["commonest token", *[None] * 4]]
    training = _resumed_and_finished(["start", 0, 0, 8, 12.2], end, *extras)
    (said,) = health("train", "succeeded", training.signs.view(), PLAN)
    assert said.words == "Done: held-out fell from 12.2 to 7.03."
    training = _resumed_and_finished(["start", 0, 0, 8, 12.2], ["lowest", 40, 400, 8, 6.9], end, *extras)
    (said,) = health("train", "succeeded", training.signs.view(), PLAN)
    assert said.words == "Done: held-out fell from 12.2 to 7.03, best 6.90 at step 40."
    ramped = [["start, quantised 0%", 0, 0, 8, 5.0], ["ternary", 9, 90, 8, 11.0]]
    (said,) = health("train", "succeeded", _resumed_and_finished(*ramped, end).signs.view(), PLAN)
    assert said.words == "Done: held-out fell from 11.0 to 7.03."


@pytest.mark.parametrize("rows", [[], [[]], [["end"]], [["start", "x", None, {}, math.nan]], [[[], 0, 0, 8, 5.0]]])
def test_a_table_that_tells_nothing_changes_nothing(rows):
    (said,) = health("train", "succeeded", _resumed_and_finished(*rows).signs.view(), PLAN)
    assert said.words == "Done: held-out stayed at 7.03."


def test_a_training_that_has_ended_says_what_it_reached():
    training = falling().steps(5).evaluate(5.7, "end")
    (said,) = health("train", "succeeded", training.signs.view(), PLAN)
    assert said.words == "Done: held-out fell from 5.90 to 5.70, best 5.60 at step 40."
    assert health("train", "failed", training.signs.view(), PLAN)[0].words.startswith(
        "So far the held-out loss fell from"
    )
    (said,) = health("train", "succeeded", training.evaluate(5.601, "end").signs.view(), PLAN)
    assert said.words == "Done: held-out fell from 5.90 to 5.60."
