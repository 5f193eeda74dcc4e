"""`bitnet watch` says how a run is doing, in words: at once, when that changes, and at the end."""

from pathlib import Path

import pytest

from bitnet_core.cli import watching
from bitnet_core.cli.main import main
from bitnet_core.cli.watching import HealthLines
from bitnet_core.runs.elapsed import Elapsed
from bitnet_core.runs.health import UNKNOWN_MACHINE
from tests.tui.simulated import NOON, SimulatedRun, experiment


@pytest.fixture
def run(isolated: Path, monkeypatch: pytest.MonkeyPatch):
    """A training that runs on a machine of which nothing is known."""
    monkeypatch.setattr(watching, "machine", lambda *_: UNKNOWN_MACHINE)
    made = SimulatedRun(experiment(isolated / "home", "watched"), "train", alive=True)
    try:
        yield made
    finally:
        made.end_process()


def measured(run: SimulatedRun, *losses: float) -> None:
    """Ten more steps before each of these held-out losses."""
    for step, loss in enumerate(losses, 1):
        run.train(10 * step - 9, 10 * step)
        run.emit("metric", step=10 * step, seen_tokens=10 * step * 745, when="checkpoint", heldout_loss=loss)


class Watch:
    """A watch with a clock of its own, which has heard what the run has told so far."""

    def __init__(self, run: SimulatedRun) -> None:
        self.said: list[str] = []
        self.now = 0.0
        self._reader = run.run.reader()
        self._lines = HealthLines(run.run, self.said.append, lambda: self.now, Elapsed(lambda: NOON + self.now))

    def look(self, after: float = 0.0) -> list[str]:
        """What is said after so many seconds."""
        self.now += after
        for event in self._reader.read_new():
            self._lines.feed(event)
        before = len(self.said)
        self._lines.look()
        return self.said[before:]


def test_an_empty_name_follows_no_other_run(run: SimulatedRun, capsys: pytest.CaptureFixture[str]):
    run.train(0, 1)
    assert main(["--root", str(run.run.path.parents[1]), "watch", ""]) == 2
    assert "The name of the run is empty" in capsys.readouterr().err


def test_words_come_when_something_changes_and_else_once_a_minute(run: SimulatedRun):
    watch = Watch(run)
    run.emit("metric", step=0, seen_tokens=0, when="start", heldout_loss=6.0)
    run.train(0, 40)
    (early,) = watch.look()
    assert early.startswith("○ Too early to tell: held-out 6.00 at step 0, ")
    run.emit("metric", step=40, seen_tokens=40 * 745, when="checkpoint", heldout_loss=5.0)
    (first,) = watch.look()
    assert first.startswith("● Healthy:")
    run.train(40, 44)
    assert watch.look(20) == []
    run.train(44, 48)
    (later,) = watch.look(45)
    assert later.startswith("● Healthy:")
    assert later != first
    run.emit("metric", step=49, seen_tokens=49_000, loss=None, nonfinite=3)
    assert watch.look(1)[0].startswith("▲ 3 steps were not finite")
    assert watch.look(1) == []
    assert "Stalled: it has reported nothing for" in watch.look(5000)[0]


def test_a_watch_ends_with_what_became_of_the_run(run: SimulatedRun, capsys: pytest.CaptureFixture[str]):
    measured(run, 6.0, 5.0)
    run.finish("succeeded")
    root = str(run.run.path.parents[1])
    assert main(["--root", root, "watch", "train"]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("✓ done\n● Done: held-out fell from 6.00 to 5.00.\n")
    assert main(["--root", root, "--json", "watch", "train"]) == 0
    assert "held-out fell" not in capsys.readouterr().out


_STOPPED = "train was stopped; its work is kept, and starting it again continues it."


@pytest.mark.parametrize("ruined", [True, False])
def test_a_stopped_training_has_one_verdict_and_one_cure(
    run: SimulatedRun, capsys: pytest.CaptureFixture[str], ruined: bool
):
    measured(run, 6.0, 60.0 if ruined else 5.0)
    run.finish("cancelled", _STOPPED)
    root = ["--root", str(run.run.path.parents[1])]
    main([*root, "watch", "train"])
    shown = capsys.readouterr().out
    assert ("✗ Ruined: " in shown and "Begin again from step 0" in shown) == ruined
    assert ("starting it again" in shown) == (not ruined)
    main([*root, "runs"])
    assert "train was stopped" in (listed := capsys.readouterr().out) and "again" not in listed
    main([*root, "--json", "watch", "train"])
    assert _STOPPED in capsys.readouterr().out, "a program gets the record's own words"


def test_an_interrupted_training_that_is_ruined_is_not_to_be_started_again_as_it_is(
    run: SimulatedRun, capsys: pytest.CaptureFixture[str]
):
    measured(run, 6.0, 60.0)
    run.end_process()
    assert main(["--root", str(run.run.path.parents[1]), "watch", "train"]) == 1
    said = capsys.readouterr()
    assert "Begin again from step 0" in said.out
    assert said.err.endswith(" was interrupted (its process is gone).\n")
