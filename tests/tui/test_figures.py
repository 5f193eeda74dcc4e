"""The newest figures of a training, read from the ends of its events."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.runs.events import Metric
from bitnet_core.runs.history import History
from bitnet_core.runs.judge import Judge
from bitnet_tui.plain import listing
from bitnet_tui.view import figures as figures_module
from bitnet_tui.view.experiment_list import about
from bitnet_tui.view.figures import Figures, FiguresReader
from bitnet_tui.view.home_columns import BY_ID
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.watch import ExperimentWatcher
from bitnet_tui.view.workspace import ExperimentRow
from tests.tui.simulated import NOON, SimulatedRun, experiment, save_checkpoint


def _held_out(run: SimulatedRun, step: int, loss: float | None) -> None:
    run.emit("metric", 0, step=step, seen_tokens=step * 745, activation_bits=8, heldout_loss=loss)


def _read(home: Path, reader: FiguresReader | None = None) -> Figures:
    from bitnet_tui.services.settings import experiment_at

    return (reader or FiguresReader()).read(History.read(experiment_at(home / "one", home)[0]))


def test_a_trend_does_not_reach_over_a_flip_or_a_ramp():
    """Each row: what the evaluation says, and the arrow that follows."""
    figures = Figures(active=True)
    rows = [
        ({"step": 1, "heldout_loss": 8.0, "activation_bits": 8, "quantized_share": 0.2}, ""),
        ({"step": 2, "heldout_loss": 9.0, "activation_bits": 8, "quantized_share": 0.6}, ""),
        ({"step": 3, "heldout_loss": 9.5, "activation_bits": 8, "quantized_share": 1.0}, ""),
        ({"step": 4, "heldout_loss": 9.9, "activation_bits": 8, "quantized_share": 1.0}, "↗"),
        ({"step": 5, "heldout_loss": 7.0, "activation_bits": 8}, ""),
        ({"step": 6, "heldout_loss": 6.5, "activation_bits": 8, "when": "before flip"}, "↘"),
        ({"step": 6, "heldout_loss": 6.9, "activation_bits": 4, "when": "after flip"}, ""),
        ({"step": 7, "heldout_loss": 7.0, "activation_bits": 4, "when": "recovery"}, ""),
        ({"step": 7, "heldout_loss": 7.0, "activation_bits": 4, "when": "checkpoint"}, ""),
        ({"step": 8, "heldout_loss": 6.8, "activation_bits": 4, "when": "recovery"}, "↘"),
        ({"step": 9, "heldout_loss": 7.1, "activation_bits": 4, "when": "checkpoint"}, "↗"),
    ]
    for fields, arrow in rows:
        figures = figures.after(Metric(v=1, t=0.0, seq=0, **fields))
        assert figures.trend == arrow, fields


def test_the_figures_of_a_training_as_it_goes(home: Path):
    run = SimulatedRun(experiment(home, "one"), "train", alive=True)
    reader = FiguresReader()
    try:
        assert _read(home, reader) == Figures(budget=150000.0, active=True)
        run.train(0, 10)
        _held_out(run, 10, 8.0)
        assert _read(home, reader) == Figures(8.0, None, 7450.0, 150000.0, 8.0, False, True)
        run.train(11, 20)
        _held_out(run, 20, 7.0)
        found = _read(home, reader)
        assert (found.held_out, found.before, found.seen, found.trend) == (7.0, 8.0, 14900.0, "↘")
        _held_out(run, 21, 7.001)
        assert _read(home, reader).trend == "→"
        _held_out(run, 22, 7.5)
        run.train(23, 24, bad_at=24)
        found = _read(home, reader)
        assert (found.trend, found.broken) == ("↗", True)
        run.train(25, 25)
        assert not _read(home, reader).broken
        assert replace(_read(home), before=7.001) == _read(home, reader)
    finally:
        run.end_process()
    assert _read(home, reader).trend == ""


@pytest.mark.parametrize(("last", "worse"), [(5.0, False), (5.641, False), (6.54, True)])
def test_a_training_that_ended_worse_than_it_began_is_told_by_its_table(home: Path, last: float, *, worse: bool):
    run = SimulatedRun(experiment(home, "one"), "train")
    run.train(0, 10)
    _held_out(run, 10, last)
    for name, rows in (("another", [["start", 0, 9.0]]), ("training", [["start", 0, 5.64], ["end", 10, last]])):
        run.emit("table", 0, name=name, columns=["when", "step", "held-out loss"], rows=rows)
    run.finish()
    found = _read(home)
    assert (found.first, found.held_out, found.worse) == (5.64, last, worse)


def test_a_stopped_training_that_rose_tells_its_best_checkpoint_if_that_is_better(home: Path):
    exp = experiment(home, "one")
    run = SimulatedRun(exp, "train")
    for step, loss in ((0, 5.64), (10, 5.0), (20, 6.54)):
        run.train(step, step)
        _held_out(run, step, loss)
    run.finish("cancelled")
    assert (found := _read(home)).worse and found.kept is None
    for step in (10, 20):
        save_checkpoint(exp, step, best={"step": 10, "heldout_loss": 5.0})
    assert _read(home).kept == (10, 5.0)
    assert "held-out loss 6.54, up from 5.64 at the start, 5.00 in the best checkpoint" in listing(home)
    save_checkpoint(exp, 20, best={"step": 10, "heldout_loss": 5.9})
    assert _read(home).kept is None


def test_a_stop_soon_after_a_flip_makes_no_training_worse():
    found = Figures(held_out=6.0, first=5.64, before_flip=5.0, stopped=True)
    assert not found.worse and replace(found, before_flip=None).worse and replace(found, stopped=False).worse


@pytest.mark.parametrize(
    ("losses", "worse"),
    [
        ((5.6, 6.4), False),
        ((5.6, 6.4, 6.9, 7.2), True),
        ((9.8,), True),
        ((5.6, 6.4, 6.4), True),
        ((4.88, 5.6), True),
    ],
)
def test_a_stop_long_after_a_flip_or_after_a_recovery_may_make_it_worse(losses: tuple[float, ...], *, worse: bool):
    """The third evaluation after the flip is in the second half of the tokens; a loss of 4.88 is a recovery."""
    found = Figures(first=5.43, budget=240.0, stopped=True)
    for place, loss in enumerate((4.88, *losses)):
        when = ("before flip", "after flip", "checkpoint")[min(place, 2)]
        told = {"step": place, "seen_tokens": 100 + 35 * max(0, place - 1), "activation_bits": 4 if place else 8}
        found = found.after(Metric(v=1, t=0.0, seq=place, heldout_loss=loss, when=when, **told))
    assert found.worse is worse


@pytest.mark.parametrize("tail", [1 << 16, 300])
def test_what_a_resumed_training_began_from_is_that_of_its_first_run(home: Path, monkeypatch, tail: int):
    monkeypatch.setattr(figures_module, "_TAIL_BYTES", tail)
    exp = experiment(home, "one")
    budget = {"tokens": 150_000, "epoch_tokens": 150_000, "epochs": 1.0, "flip_at_tokens": 135_000}
    for at, losses in enumerate(((5.43, 9.0, 12.2), (12.2, 9.0, 8.21))):
        run = SimulatedRun(exp, "train", NOON + 100 * at, alive=at == 1)
        for done in range(200):
            run.emit("progress", done=done, total=200, unit="steps", label="fitting the student to the teacher")
        run.emit("budget", seen_tokens=20 * 745 * at, **budget)
        for place, loss in enumerate(losses):
            step = 20 * at + 10 * place
            run.train(step, step + 5)
            _held_out(run, step, loss)
        if at == 0:
            run.finish("cancelled")
    try:
        found = _read(home)
        assert (found.first, found.held_out, found.trend, found.worse) == (5.43, 8.21, "↘", True)
    finally:
        run.end_process()


def test_one_that_trains_is_worse_only_beyond_a_usual_step_up_and_not_after_a_flip():
    start = Figures(active=True).after(Metric(v=1, t=0.0, seq=0, step=0, heldout_loss=5.64))
    assert start.first == 5.64 and not start.worse
    for loss, when, worse in ((5.7, "early", False), (6.54, "early", True), (6.54, "after flip", False)):
        assert start.after(Metric(v=1, t=0.0, seq=0, step=7, heldout_loss=loss, when=when)).worse is worse
    flipped = start.after(Metric(v=1, t=0.0, seq=0, step=7, heldout_loss=5.0, when="before flip"))
    assert not flipped.after(Metric(v=1, t=0.0, seq=0, step=9, heldout_loss=6.5, when="checkpoint")).worse


def test_a_flip_that_has_reached_some_layers_only_shows_as_such():
    figures, layers = Figures(), []
    for at_4 in (0, 2, 6):
        told = {"activation_bits": 4 if at_4 else 8, "layers_at_4_bits": at_4, "layers": 6}
        figures = figures.after(Metric(v=1, t=0.0, seq=0, step=1, **told))
        row = ExperimentRow(Path("one"), figures=figures)
        layers.append((unstyled(BY_ID["bits"].text(row, 0.0)), figures.layers))
    assert layers == [("A8", ""), ("A8→A4", " in 2 of 6 layers"), ("A4", "")]


def test_reading_a_growing_file_in_pieces_gives_what_reading_it_once_gives(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    """Evaluations lie further back than the first window, and lines are torn."""
    monkeypatch.setattr(figures_module, "_TAIL_BYTES", 300)
    run = SimulatedRun(experiment(home, "one"), "train")
    run.train(0, 30)
    _held_out(run, 30, 5.0)
    run.train(31, 60, bad_at=60)
    path, whole = run.run.events_path, run.run.events_path.read_bytes()
    chance = random.Random(1)
    for _ in range(4):
        reader, cuts = FiguresReader(), sorted(chance.sample(range(len(whole)), 5))
        for cut in (*cuts, len(whole)):
            path.write_bytes(whole[:cut])
            found = _read(home, reader)
        assert found == _read(home)
        assert (found.held_out, found.seen, found.broken) == (5.0, 60 * 745.0, True)
    path.write_bytes(b"")
    assert _read(home, reader).held_out is None


def test_a_resumed_training_keeps_the_held_out_loss_until_it_has_its_own(home: Path):
    exp = experiment(home, "one")
    first = SimulatedRun(exp, "train", NOON)
    first.train(0, 10)
    _held_out(first, 10, 6.0)
    first.finish("cancelled")
    second = SimulatedRun(exp, "train", NOON + 100)
    assert _read(home).held_out == 6.0
    second.train(11, 12)
    found = _read(home)
    assert (found.held_out, found.seen) == (6.0, 12 * 745.0)
    _held_out(second, 12, 5.5)
    assert _read(home).held_out == 5.5


def test_a_resumed_training_has_no_figure_of_steps_thrown_away_before_its_first_report(home: Path):
    exp = experiment(home, "one")
    first = SimulatedRun(exp, "train", NOON)
    for step, loss in ((10, 6.0), (20, 5.0)):
        _held_out(first, step, loss)
    first.finish("failed")
    later = SimulatedRun(exp, "train", NOON + 100, alive=True)
    try:
        save_checkpoint(exp, 10, seen_tokens=7450)
        later.emit("budget", 0, tokens=150_000, epoch_tokens=9000, epochs=9.5, seen_tokens=7450)
        assert _read(home).held_out == 6.0
    finally:
        later.end_process()


def test_a_training_whose_events_cannot_be_read_has_the_figures_of_its_record_and_says_so(home: Path):
    exp = experiment(home, "one")
    for place, step in enumerate((10, 20)):
        run = SimulatedRun(exp, "train", NOON + 100 * place)
        run.train(step - 9, step)
        _held_out(run, step, 6.0)
        run.finish(heldout_loss=5.4, seen_tokens=9000, steps=20, activation_bits=4)
    for data in (b"", b"\x00\xff" * 90 + b"\n"):
        run.run.events_path.write_bytes(data)
        found = _read(home)
        assert (found.unreadable, found.held_out, found.seen, found.bits) == (True, 5.4, 9000, 4)
        assert "9k of 150k tokens, figures from its record, as its events can't be read" in listing(home)
        shown = ExperimentWatcher(exp.root, home).look("train").run
        assert shown is not None and not shown.view.charted and shown.view.held_out is None
        words = "This run's events can't be read. By its record, held-out was 5.40 at step 20 in the end."
        assert [one.words for one in shown.health] == [words]
        assert [one.words for one in Judge(run.run).findings(run.run.record(), "succeeded")] == [words]


def test_the_figures_of_the_training_before_one_that_cannot_be_read_are_marked(home: Path):
    exp = experiment(home, "one")
    first = SimulatedRun(exp, "train", NOON)
    first.train(0, 10)
    _held_out(first, 10, 6.0)
    first.finish()
    later = SimulatedRun(exp, "train", NOON + 100)
    later.finish("cancelled")
    assert not _read(home).earlier
    later.run.events_path.write_bytes(b"\x00\xff" * 90 + b"\n")
    found = _read(home)
    assert (found.earlier, found.held_out, found.seen) == (True, 6.0, 7450)
    row = ExperimentRow(exp.root, figures=found)
    assert [unstyled(BY_ID[name].text(row, NOON)) for name in ("heldout", "tokens")] == ["6.00 ↻", "7.5k/150k"]
    assert [BY_ID[name].text(row, NOON)[0].style for name in ("heldout", "tokens")] == ["label", "label"]
    words = "figures of an earlier training: the events of the newest one can't be read"
    assert unstyled(about(row, 120)[1]).startswith(words) and words in listing(home)
    later.finish("cancelled", heldout_loss=5.5)
    later.run.events_path.write_bytes(b"")
    assert (_read(home).earlier, _read(home).held_out) == (False, 5.5)


@pytest.mark.parametrize("early", [True, False])
def test_a_held_out_loss_of_steps_that_were_lost_is_not_shown(home: Path, early: bool):
    """The second run goes on at step 10 of the first, and the third one begins anew.

    `early`: each is looked at before it has said so.
    """
    reader = FiguresReader()
    exp = experiment(home, "one")
    first = SimulatedRun(exp, "train", NOON)
    for last, loss in ((10, 6.0), (20, 5.0)):
        first.train(last - 10, last)
        _held_out(first, last, loss)
    first.finish("cancelled")
    budget = {"tokens": 150_000, "epoch_tokens": 150_000, "epochs": 1.0, "flip_at_tokens": 135_000}
    second = SimulatedRun(exp, "train", NOON + 100)
    if early:
        _read(home, reader)
    second.emit("budget", seen_tokens=10 * 745, **budget)
    second.train(11, 12)
    assert _read(home, reader).held_out == 6.0
    second.finish("cancelled")
    third = SimulatedRun(exp, "train", NOON + 200)
    if early:
        _read(home, reader)
    third.emit("budget", seen_tokens=0, **budget)
    assert _read(home, reader).held_out == 6.0
    third.train(1, 2)
    assert _read(home, reader).held_out is None


@pytest.mark.parametrize("resumed", [True, False])
def test_an_active_training_has_figures_of_the_one_before_only_if_it_goes_on_with_it(home: Path, resumed: bool):
    exp = experiment(home, "one")
    first = SimulatedRun(exp, "train", NOON)
    first.train(0, 10)
    _held_out(first, 10, 6.0)
    first.finish("cancelled")
    if resumed:
        save_checkpoint(exp, 10)
    budget = {"tokens": 150_000, "epoch_tokens": 150_000, "epochs": 1.0, "flip_at_tokens": 135_000}
    second = SimulatedRun(exp, "train", NOON + 100, alive=True)
    try:
        found = _read(home)
        assert (found.held_out, found.seen) == ((6.0, 7450.0) if resumed else (None, None))
        second.emit("budget", seen_tokens=7450 * resumed, **budget)
        second.train(11, 12)
        assert _read(home).held_out == (6.0 if resumed else None)
        _held_out(second, 12, 5.5)
        assert (_read(home).held_out, _read(home).trend) == (5.5, "↘" if resumed else "")
    finally:
        second.end_process()
