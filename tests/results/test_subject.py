"""Which runs of an experiment its figures are of, in a comparison."""

from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.results.compare import compare
from bitnet_core.results.finding import reader_of
from bitnet_core.results.subject import older_trainings
from bitnet_core.runs.history import History
from tests.results.trainings import STEPS, TOKENS, cells, compared, evaluated, made, trained
from tests.tui.simulated import NOON, SimulatedRun, save_checkpoint


def test_a_training_that_failed_before_its_first_step_changes_nothing(home: Path):
    exp = made(home, "exp")
    trained(exp, 5.2)
    evaluated(exp, qei=1.4)
    failed = SimulatedRun(exp, "train", NOON + 900).finish("failed", "no memory")
    found = compared(home, "exp", f"exp:{failed.run.id}")
    assert cells(found, "heldout_loss") == ["5.200", "–"]
    assert cells(found, "qei")[0].startswith("1.40")
    assert [len(one.trained) for one in found.subjects] == [1, 1]


def test_a_training_at_work_is_as_old_as_its_newest_event(home: Path):
    """A time that counts up would be drawn again and again while nothing happens."""
    run = trained(made(home, "live"), 5.3, last=STEPS // 2, alive=True)
    try:
        reader = reader_of("live", home)
        assert reader.read().runs["train"].seconds == STEPS // 2 + 1
        assert reader.read().active
        run.emit("metric", step=STEPS // 2 + 1, seen_tokens=11 * TOKENS, loss=4.0)
        assert reader.read().runs["train"].seconds == STEPS // 2 + 2
        assert reader.read().training.points("loss")[-1] == (11 * TOKENS, 4.0)
        # Between two figures only progress tells it; the app's gauge has it from there too.
        told: dict[str, object] = {"done": 11.5 * TOKENS, "total": STEPS * TOKENS, "unit": "tokens"}
        run.emit("progress", **told, step=STEPS // 2 + 2, seen_tokens=int(11.5 * TOKENS))
        assert cells(compared(home, "live", "live"), "seen_tokens") == ["11.5k"] * 2
    finally:
        run.end_process()


@pytest.mark.parametrize("resumed", [True, False])
def test_a_training_without_figures_yet_has_those_before_only_if_it_goes_on(home: Path, resumed: bool):
    exp = made(home, "exp")
    trained(exp, 5.2, state="cancelled")
    if resumed:
        save_checkpoint(exp, STEPS // 2)
    run = SimulatedRun(exp, "train", NOON + 900, alive=True)
    try:
        assert bool(reader_of("exp", home).read().training.points("loss")) == resumed
    finally:
        run.end_process()


@pytest.mark.parametrize(
    ("evaluated_at", "words"),
    [
        (10_100, "After 10.1k tokens, where both were measured, held-out loss is A 7.000, B 6.500."),
        (11_000, "After 11k tokens held-out loss is A about 6.80, B 6.500."),
    ],
)
def test_what_still_trains_is_compared_after_the_same_tokens_and_not_judged(
    home: Path, evaluated_at: int, words: str
):
    trained(made(home, "done"), 5.0)
    run = SimulatedRun(made(home, "live"), "train", NOON + 100, alive=True)
    try:
        run.emit("metric", step=0, seen_tokens=0, heldout_loss=12.0)
        run.emit("metric", step=10, seen_tokens=evaluated_at, heldout_loss=6.5, heldout_ce=4.0)
        run.emit("metric", step=12, seen_tokens=12_000, loss=6.0)
        found = compared(home, "done", "live")
        assert found.sentence == (
            f"B still trains, so none is called better yet. {words} No setting that decides a result differs. "
            "Seen so far: A 20k, B 12k tokens."
        )
        SimulatedRun(made(home, "fresh"), "train", NOON + 200).finish("cancelled")
        headline = compared(home, "fresh", "done").verdict.headline
        assert headline.endswith(" so none is called better. A (fresh) has no held-out loss yet.")
        turned = compared(home, "live", "done").verdict.headline
        assert words.partition(" tokens")[0] in turned  # whatever the order
        assert cells(found, "heldout_loss") == ["5.000", "6.500"]
    finally:
        run.end_process()


def test_two_runs_of_one_experiment_each_have_their_own_evaluation(home: Path):
    exp = made(home, "exp")
    first = trained(exp, 5.3)
    evaluated(exp, qei=1.1)
    second = trained(exp, 5.1, at=NOON + 1000)
    measured = evaluated(exp, at=NOON + 2000, qei=1.4)
    found = compared(home, f"exp:{first.run.id}", str(second.run.path))
    assert cells(found, "qei") == ["1.10", "1.40 *"]
    assert cells(found, "heldout_loss") == ["5.300", "5.100 *"]
    assert cells(compared(home, f"exp:{measured.run.id}", "exp"), "qei") == ["1.40", "1.40"]
    here = [reader_of(run.run.id, home, exp.root).read() for run in (first, second)]
    assert cells(compare(here), "qei") == ["1.10", "1.40 *"]
    with pytest.raises(UsageError, match="has no run 'nothing'"):
        reader_of("nothing", home, exp.root).read()


def test_a_resumed_training_is_one(home: Path):
    whole, cut = made(home, "whole"), made(home, "cut")
    trained(whole, 5.2)
    trained(cut, 5.2, last=13, state="cancelled")
    trained(cut, 5.2, at=NOON + 500, first=11)
    found = compared(home, "whole", "cut")
    curves = [one.training.points("heldout_loss") for one in found.subjects]
    assert curves[0] == curves[1]
    assert len(curves[0]) == STEPS // 5
    assert [len(one.trained) for one in found.subjects] == [1, 2]


def test_older_trainings_leave_out_the_present_one_with_all_its_runs(home: Path):
    exp = made(home, "one")
    first = trained(exp, 5.0, at=NOON)
    second = trained(exp, 4.9, at=NOON + 100, last=8, state="cancelled")
    resumed = trained(exp, 4.8, at=NOON + 200, first=9)
    found = [entry.run.id for entry in older_trainings(History.read(exp))]
    assert found == [first.run.id]
    newest = trained(exp, 4.7, at=NOON + 300)
    SimulatedRun(exp, "train", NOON + 400).finish("failed")  # before its first step
    found = [entry.run.id for entry in older_trainings(History.read(exp))]
    assert found == [resumed.run.id, first.run.id]
    assert {newest.run.id, second.run.id}.isdisjoint(found)
