"""The curves of a training that was stopped and resumed are those of one that was not."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.cli import watching
from bitnet_core.cli.watching import HealthLines
from bitnet_core.results.curves import joined
from bitnet_core.runs.chain import of_one_training
from bitnet_core.runs.elapsed import Elapsed
from bitnet_core.runs.finding import Finding
from bitnet_core.runs.health import UNKNOWN_MACHINE
from bitnet_core.runs.notices import end_notice
from bitnet_tui import plain
from bitnet_tui.app import BitnetApp
from bitnet_tui.services.settings import experiment_at
from bitnet_tui.view import watch
from bitnet_tui.view.chart_text import title
from bitnet_tui.view.lens import CHARTS, Axis, Lens
from bitnet_tui.view.run_fold import RunFold, RunView
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.training import on
from bitnet_tui.view.watch import ExperimentWatcher
from tests.builders import event
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import settled, shown, until, words
from tests.tui.simulated import NOON, SimulatedRun, experiment, save_checkpoint


def _metric(step: int, value: float | None):
    return event("metric", step=step, seen_tokens=step * 10, loss=value, kl=1.0)


def _run(steps, losses, flip_at: int | None = None, *, told: bool = False) -> RunView:
    """With `told`, the run says after how many tokens it goes on, as those of older versions did not."""
    fold = RunFold()
    if told:
        budget = {"tokens": 400, "epoch_tokens": 400, "epochs": 1.0, "flip_at_tokens": 360}
        fold.feed([event("budget", seen_tokens=(steps[0] - 1) * 10, **budget)])
    for step in steps:
        fold.feed([_metric(step, losses[step])])
        if step == flip_at:
            fold.feed([event("flip", step=step, seen_tokens=step * 10, from_bits=8, to_bits=4)])
    return fold.view()


def _points(view) -> dict[str, list[tuple[float, float]]]:
    return {curve.name: [point for segment in curve.segments for point in segment] for curve in view.curves}


_loss = st.one_of(st.none(), st.floats(0, 10))
_cuts = st.lists(st.tuples(st.integers(2, 39), st.integers(0, 8)), max_size=5)


@given(st.lists(_loss, min_size=41, max_size=41), _cuts, st.one_of(st.none(), st.integers(1, 40)), st.booleans())
def test_a_resumed_training_has_the_curves_of_an_uninterrupted_one(losses, cuts, flip_at, told):
    """Each run goes on for some steps after its last checkpoint; these are lost, and done again by the next run."""
    runs, seams, first = [], [], 1
    for resumed_at, lost in sorted(cuts):
        if resumed_at > first:
            runs.append(_run(range(first, min(41, resumed_at + lost)), losses, flip_at, told=told))
            seams.append((resumed_at - 1) * 10.0 if told else resumed_at * 10.0)
            first = resumed_at
    runs.append(_run(range(first, 41), losses, flip_at, told=told))
    whole, one = _run(range(1, 41), losses, flip_at), joined(of_one_training(reversed(runs)))
    assert _points(one) == _points(whole)
    assert [curve.not_finite for curve in one.curves] == [curve.not_finite for curve in whole.curves]
    assert one.seams == pytest.approx(tuple(seams))
    assert (one.flip is None) == (whole.flip is None)
    assert one.flip is None or one.flip.step == flip_at
    if None not in losses:
        assert all(len(curve.segments) <= 1 for curve in one.curves)


_LOSSES = [float(step) for step in range(41)]


def test_a_run_that_began_anew_stands_alone():
    before = _run(range(1, 20), _LOSSES)
    for first in (0, 1):
        anew = _run(range(first, 10), _LOSSES)
        assert of_one_training([anew, before]) == [anew]
    resumed = _run(range(2, 10), _LOSSES)
    assert of_one_training([resumed, before, before]) == [resumed, before]


def test_no_older_run_is_read_than_the_curve_needs():
    def runs():
        yield _run(range(15, 20), _LOSSES)
        yield RunView()
        yield _run(range(1, 18), _LOSSES)
        raise AssertionError("read on")

    assert len(of_one_training(runs())) == 3


def test_what_a_newer_run_went_back_behind_is_lost_with_its_seams():
    runs = [_run(range(1, 11), _LOSSES), _run(range(10, 30), _LOSSES), _run(range(5, 8), _LOSSES)]
    one = joined(runs[::-1])
    assert one.seams == pytest.approx((50.0,))
    assert [x for x, _ in _points(one)["loss"]] == [step * 10.0 for step in range(1, 8)]


def test_a_seam_tells_what_was_changed_there():
    def run(steps: range, *values: float) -> RunView:
        fold = RunFold()
        if values:
            changed = {"before": {"LR": values[0]}, "after": {"LR": values[1]}}
            fold.feed([event("changed", step=steps.start - 1, seen_tokens=steps.start * 10 - 10, **changed)])
        fold.feed([_metric(step, 3.0) for step in steps])
        return fold.view()

    runs = [run(range(1, 11)), run(range(9, 21), 6e-4, 3e-4), run(range(18, 31)), run(range(26, 41), 3e-4, 1e-4)]
    one = joined(runs[::-1])
    assert one.seams == pytest.approx((80.0, 180.0, 250.0))
    assert one.turns == ("LR 6e-4 → 3e-4", "", "LR 3e-4 → 1e-4")
    view = on(one, runs[-1])
    every = "LR 6e-4 → 3e-4 ║ resumed ║ LR 3e-4 → 1e-4"
    for cursor, told in ((None, every), (300.0, one.turns[2]), (200.0, "resumed"), (90.0, one.turns[0])):
        line = title(CHARTS[0], view, Lens(cursor=cursor), Axis("tokens"), 110, alone=True)
        assert f"║ {told}" in unstyled(line)
    narrow = title(CHARTS[0], view, Lens(), Axis("tokens"), 46, alone=True)
    for turns, short in (
        ((one.turns[0], one.turns[2]), "║ LR 6e-4→3e-4→1e-4"),
        (("", "", "", ""), "║ resumed 4×"),
        ((one.turns[2], one.turns[0]), "last ║ LR→3e-4"),
    ):
        seams = replace(view, seams=(80.0, 180.0, 200.0, 250.0)[: len(turns)], turns=turns)
        told = [
            unstyled(title(CHARTS[0], seams, Lens(), Axis("tokens"), cells, alone=True)) for cells in range(40, 90)
        ]
        assert any(f"{short} " in one for one in told)
    assert "║ LR→1e-4" in unstyled(narrow)
    labelled = on(replace(one, turns=("", "BUDGET_TOKENS 21,611 → 43,222, NO_SUCH 1 → 2", "")), runs[-1])
    assert labelled.turns[1] == "Token budget 21,611 → 43,222, NO_SUCH 1 → 2"


def test_a_seam_is_at_the_checkpoint_and_not_at_the_next_report():
    """Reports are every fifth step, the checkpoint is of step 12."""
    first = _run([1, 5, 10, 15], _LOSSES, told=True)
    fold = RunFold()
    budget = {"tokens": 400, "epoch_tokens": 400, "epochs": 1.0, "flip_at_tokens": 360}
    fold.feed([event("budget", seen_tokens=120, **budget), *(_metric(step, 0.5) for step in (15, 20))])
    one = joined([fold.view(), first])
    assert one.seams == (120.0,)
    assert _points(one)["loss"] == [(10.0, 1.0), (50.0, 5.0), (100.0, 10.0), (150.0, 0.5), (200.0, 0.5)]


def test_an_evaluation_that_was_lost_is_not_the_newest():
    def evaluated(step: int) -> object:
        return event("metric", step=step, seen_tokens=step * 10, heldout_loss=float(step), heldout_agreement=0.5)

    fold = RunFold()
    fold.feed([_metric(1, 9.0), evaluated(4), _metric(5, 9.0), evaluated(8), evaluated(9)])
    first, resumed = fold.view(), _run(range(8, 12), _LOSSES)
    assert joined([first]).held_out is first.held_out
    kept = joined([resumed, first]).held_out
    assert kept is not None
    assert (kept.step, kept.seen_tokens, kept.heldout_loss, kept.heldout_agreement) == (4, 40, 4.0, 0.5)
    assert joined([_run(range(2, 12), _LOSSES), first]).held_out is None


def test_a_flip_that_was_lost_is_not_shown():
    runs = [_run(range(1, 20), _LOSSES, flip_at=15), _run(range(12, 14), _LOSSES)]
    assert joined(runs[::-1]).flip is None


@pytest.mark.parametrize("size", [(80, 24), (100, 30), (120, 36)])
async def test_a_resumed_training_shows_what_was_before(home: Path, size: tuple[int, int]):
    exp = experiment(home, "resumed")
    first = SimulatedRun(exp, "train", NOON)
    first.train(0, 190)
    first.finish("cancelled", "train was stopped.")
    save_checkpoint(exp, 185, bits=4, seen_tokens=185 * 745)
    live = SimulatedRun(exp, "train", NOON + 500, alive=True)
    try:
        look = ExperimentWatcher(exp.root, home).look
        assert len(_points(look("train").run.view)["loss"]) == 186  # before the first figure of the new run
        live.train(186, 195)
        seen = look("train").run.view
        assert [x for x, _ in _points(seen)["loss"]] == [step * 745.0 for step in range(196)]
        assert look("train").run.view.curves == seen.curves
        assert look("train", 1).run.view.seams == ()
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
            await settled(pilot)
            text = shown(pilot)
            assert "flipped at 136k" in text
            assert text.count("║") > 5
            assert "A8→A4" in text
            assert "║ resumed" in text
    finally:
        live.end_process()


def _told(said: tuple[Finding, ...]) -> list[str]:
    return [f"{one.words} {one.advice}".rstrip() for one in said]


def test_a_resumed_training_is_as_healthy_as_it_was_wherever_it_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    """In the app, by `--plain`, by `bitnet watch`, and in the notice of its end."""
    monkeypatch.setattr(watching, "machine", lambda *_: UNKNOWN_MACHINE)
    monkeypatch.setattr(watch, "machine", lambda *_: UNKNOWN_MACHINE)
    exp = experiment(home, "resumed")
    first = SimulatedRun(exp, "train", NOON)
    first.emit("metric", step=0, seen_tokens=0, heldout_loss=9.5, when="start")
    first.train(1, 60)
    first.emit("metric", step=60, seen_tokens=44_700, heldout_loss=8.5, when="checkpoint")
    first.finish("cancelled")
    save_checkpoint(exp, 60, seen_tokens=44_700)
    live = SimulatedRun(exp, "train", NOON + 50_000, alive=True)
    elapsed = Elapsed(lambda: NOON + 50_010)
    said: list[str] = []
    lines, reader = HealthLines(live.run, said.append, elapsed=elapsed), live.run.reader()

    def watched() -> list[str]:
        said.clear()
        for one in reader.read_new():
            lines.feed(one)
        lines.look()
        return [line[2:] for line in said]

    try:
        look = ExperimentWatcher(exp.root, home, elapsed).look
        starts = ["Starting: reading its settings and traces."]
        assert _told(look("train").run.health) == watched() == starts
        live.train(61, 61)
        (words,) = _told(look("train").run.health)
        assert words.startswith("Healthy: held-out fell from 9.50 to 8.50 by step 60, next at ")
        assert watched() == [words]
        monkeypatch.setattr(plain, "ExperimentWatcher", lambda *given: ExperimentWatcher(*given, elapsed))
        assert f"      {words}\n" in plain.listing(home)
        assert _told(look("train", 1).run.health) == ["So far the held-out loss fell from 9.50 to 8.50."]
        live.emit("metric", step=62, seen_tokens=46_190, heldout_loss=8.25, when="end")
        live.finish()
        ended = ["Done: held-out fell from 9.50 to 8.25."]
        assert _told(look("train").run.health) == watched() == ended
        notice = end_notice(live.run, live.run.record(), "succeeded", "resumed")
        assert notice.words.startswith(ended[0].removeprefix("Done: ").capitalize())
    finally:
        live.end_process()


def test_a_run_that_adds_no_step_shows_the_training_that_was_finished(home: Path):
    exp = experiment(home, "again")
    first = SimulatedRun(exp, "train", NOON)
    first.emit("metric", step=0, seen_tokens=0, heldout_loss=9.5, when="start")
    first.train(1, 200)
    first.emit("metric", step=200, seen_tokens=149_000, heldout_loss=6.5, when="end")
    first.finish()
    before = ExperimentWatcher(exp.root, home).look("train").run
    SimulatedRun(exp, "train", NOON + 500).finish()
    after = ExperimentWatcher(exp.root, home).look("train").run
    assert after.of == 2 and after.view.curves == before.view.curves
    assert [one.words for one in after.health] == ["Done: held-out fell from 9.50 to 6.50."]
    SimulatedRun(exp, "train", NOON + 900).finish("failed", "There are no traces.")
    failed = ExperimentWatcher(exp.root, home).look("train").run
    assert not any(curve.segments for curve in failed.view.curves)


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_a_training_that_begins_anew_shows_nothing_of_the_one_before(home: Path, size: tuple[int, int]):
    exp = experiment(home, "anew")
    first = SimulatedRun(exp, "train", NOON)
    first.train(0, 190)
    first.emit("metric", 0, step=190, seen_tokens=141_550, heldout_loss=4.25, heldout_agreement=0.2)
    first.finish()
    save_checkpoint(exp, 185, bits=4)
    with (exp.root / ".env").open("a") as env:
        env.write("SEED=7\n")
    live = SimulatedRun(experiment_at(exp.root, home)[0], "train", NOON + 500, alive=True)
    try:
        seen = ExperimentWatcher(exp.root, home).look("train").run.view
        assert not any(curve.segments for curve in seen.curves)
        async with BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=size) as pilot:
            await settled(pilot)
            assert "No step yet" in words(pilot)
            assert "4.25" not in words(pilot) and "flipped" not in words(pilot)
            live.train(0, 3)
            await until(pilot, lambda: "No step yet" not in words(pilot) and "total" in words(pilot))
    finally:
        live.end_process()
