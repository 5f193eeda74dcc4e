"""A training that diverged is worse than one that is finished, and is said to have diverged."""

from pathlib import Path

import pytest

from bitnet_core.runs.diverged import DIVERGED, NOT_FINITE
from tests.results.trainings import compared, made, trained, whole
from tests.tui.simulated import NOON, SimulatedRun


def _lost(home: Path, name: str, state: str, error: str, *held_out: float, losses: tuple[float, ...] = (9.0, 80.7)):
    run = SimulatedRun(made(home, name), "train", NOON)
    for place, loss in enumerate(held_out):
        run.emit("metric", step=5 * place, seen_tokens=5000 * place, heldout_loss=loss, heldout_ce=loss - 1)
    for place, loss in enumerate(losses, 1):
        run.emit("metric", step=place, seen_tokens=1000 * place, loss=loss)
    run.finish(state, error)


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_finished_training_is_better_than_one_that_diverged(home: Path, state: str):
    """Also than one that was stopped when it had."""
    _lost(home, "hot", state, f"{DIVERGED}: …" if state == "failed" else "train was stopped", 13.1, 57.9)
    whole(home, "good", 5.21)
    assert compared(home, "hot", "good").verdict.headline == (
        "A diverged (its held-out loss rose from 13.1 to 57.9). B is better on held-out loss: 5.210 against A 57.90 "
        "(91.0% less)."
    )
    whole(home, "best", 5.00)
    assert compared(home, "good", "hot", "best").verdict.headline == (
        "B diverged (its held-out loss rose from 13.1 to 57.9). C is better on held-out loss: 5.000 against A 5.210 "
        "(4.0% less)."
    )


def test_the_loss_of_training_tells_where_nothing_was_measured_since(home: Path):
    whole(home, "good", 5.21)
    _lost(home, "hot", "failed", f"{DIVERGED}: …")
    assert compared(home, "hot", "good").verdict.headline == (
        "A diverged (its loss rose from 9.00 to 80.7), so B is better, with a held-out loss of 5.210."
    )
    _lost(home, "nan", "failed", f"{NOT_FINITE} 5 times", losses=())
    assert "A diverged (its loss or gradient was not finite), so B" in compared(home, "nan", "good").sentence


def test_one_that_was_better_before_it_diverged_is_not_called_worse(home: Path):
    whole(home, "good", 5.21)
    _lost(home, "late", "failed", f"{DIVERGED}: …", 13.1, 5.00)
    said = compared(home, "late", "good").verdict.headline
    assert said.startswith("A diverged (its loss rose from 9.00 to 80.7), so none is called better. ")


def test_one_that_failed_did_not_stop_early(home: Path):
    whole(home, "good", 5.21)
    trained(made(home, "full"), 5.3, last=10, state="failed")
    trained(made(home, "half"), 5.3, last=10, state="cancelled")
    said = compared(home, "full", "half", "good").verdict.headline
    assert said.startswith("A failed and B stopped early, so none is called better. ")
