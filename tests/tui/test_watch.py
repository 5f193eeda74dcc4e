"""What is read of an experiment for its screen."""

import time
from pathlib import Path

import pytest

from bitnet_tui.view.watch import ExperimentWatcher
from tests.tui.simulated import SimulatedRun, experiment


@pytest.mark.parametrize(("later", "shown"), [(0, 61), (58, 61), (61, 120), (100, 120), (130, 180)])
def test_the_time_of_a_silent_run_moves_once_a_minute(home: Path, later: float, shown: float):
    """Its newest event came 61 s after its start; `later` is how long ago that is."""
    exp = experiment(home, "silent")
    started = time.time() - 61
    live = SimulatedRun(exp, "train", started, alive=True)
    try:
        live.train(0, 59)
        watcher = ExperimentWatcher(exp.root, home, clock=lambda: started + 61 + later)
        seen = watcher.look("train").run
        assert seen is not None
        assert seen.elapsed == pytest.approx(shown, abs=1e-3)
    finally:
        live.end_process()
