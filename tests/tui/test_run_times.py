"""The time of a run, of a stage over all its runs, and of the whole pipeline."""

import dataclasses
import time
from pathlib import Path

import pytest

from bitnet_core import process
from bitnet_core.results.figures import figures_of
from bitnet_core.results.finding import reader_of
from bitnet_core.runs.elapsed import Elapsed
from bitnet_core.text import width
from bitnet_tui.view.panels import title
from bitnet_tui.view.spans import unstyled
from bitnet_tui.view.watch import ExperimentWatcher
from tests.tui.simulated import NOON, SimulatedRun, experiment


@pytest.mark.parametrize("stage", ["train", "collect", "eval"])
def test_the_time_of_a_run_counts_up_whether_it_tells_something_or_not(home: Path, stage: str):
    exp = experiment(home, "counted")
    now = started = time.time()
    live = SimulatedRun(exp, stage, started, alive=True)
    try:
        watcher, seen = ExperimentWatcher(exp.root, home, elapsed=Elapsed(lambda: now)), []
        for seconds in (3, 44, 45, 61, 70, 71, 130):
            if seconds == 61:
                live._now = started + 60
                live.train(1, 1)
            now = started + seconds
            seen.append(watcher.look(stage).run.elapsed)
        assert seen == pytest.approx([3, 44, 45, 61, 70, 71, 130], abs=1e-3)
    finally:
        live.end_process()


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_clock_that_was_put_on_or_back_moves_no_time_of_a_run(home: Path, jump: float):
    """The run began an hour ago by the wall clock, but 200 s ago since boot, or the other way round."""
    exp = experiment(home, "jumped")
    now = time.time()
    live = SimulatedRun(exp, "train", now - 200 - jump, alive=True)
    try:
        boot = process.uptime()
        assert boot is not None
        live.run.write(dataclasses.replace(live.run.record(), started_uptime=boot - 200))
        live._now = now - 100
        live.train(0, 2)
        watcher = ExperimentWatcher(exp.root, home, elapsed=Elapsed(lambda: now))
        for _ in range(2):
            seen = watcher.look("train").run
            assert seen is not None
            assert 200 <= seen.elapsed <= 200 + time.time() - now + 0.1
    finally:
        live.end_process()


def test_the_times_of_the_stages_add_up_to_that_of_the_pipeline_in_the_list_and_in_its_title(home: Path):
    """An older pipeline has the time of its own run, and of those that it continues."""
    exp = experiment(home, "resumed")
    ran = (
        *(("pipeline", 300, "succeeded"), ("pipeline", 70, "cancelled"), ("teacher", 10, "succeeded")),
        *(("pipeline", 2, "succeeded"), ("collect", 40, "succeeded")),
    )
    for place, (stage, seconds, state) in enumerate(ran):
        run = SimulatedRun(exp, stage, NOON + 500 * place)
        # a start and an end are 1 s each
        run.emit("progress", seconds - 2, done=1, total=2, unit="answers", label="")
        run.finish(state)
    look = ExperimentWatcher(exp.root, home).look
    rows = {row.name: row.note for row in look(None).rows}
    assert rows == {"pipeline": "50s", "teacher": "10s", "collect": "40s", "train": "", "eval": "", "dryrun": ""}
    for back, said in ((0, "50s"), (1, "1m 10s"), (2, "5m 00s")):
        assert f"   {said}   run" in unstyled(title(look("pipeline", back), 100))


def test_the_time_of_a_collection_is_that_of_the_runs_whose_answers_it_has(home: Path):
    """The first two are another collection, one was refused by its teacher, and the last one only writes."""
    exp = experiment(home, "resumed")
    ran = ((0, 1, "succeeded"), (1, 2, "cancelled"), (0, 3, "failed"), (None, 5, "failed"), (3, 7, "succeeded"))
    for place, (kept, seconds, state) in enumerate(ran):
        run = SimulatedRun(exp, "collect", NOON + 500 * place)  # a start and an end are 1 s each
        if kept is not None:
            run.emit("trace", seconds, prompt_idx=0, tokens=5, kept=5, dropped={})
            run.emit("metric", 0, answers=kept + 1, tokens=5)
        run.finish(state)
    writing = SimulatedRun(exp, "collect", NOON + 3000)
    writing.emit("progress", 11, done=1, total=2, unit="shards", label="writing")
    writing.finish()
    look = ExperimentWatcher(exp.root, home).look
    row = look("collect").row("collect")
    assert row is not None and row.note == "29s"
    for back, said in ((0, "29s"), (1, "16s"), (2, "2s"), (3, "5s"), (4, "7s")):
        assert f"   {said}   " in unstyled(title(look("collect", back), 100))


@pytest.mark.parametrize(("stage", "took"), [("teacher", "14s"), ("eval", "7s"), ("dryrun", "7s")])
def test_the_time_of_a_stage_without_beginnings_is_that_of_the_runs_whose_work_it_took_over(
    home: Path, stage: str, took: str
):
    """A stage that begins anew takes over none, and no run does under other settings, or of one that succeeded."""
    exp = experiment(home, "resumed")
    for place, (other, seconds, state) in enumerate(
        ((True, 1, "cancelled"), (False, 2, "succeeded"), (False, 5, "failed"), (False, 5, "succeeded"))
    ):
        run = SimulatedRun(exp, stage, NOON + 500 * place)  # a start and an end are 1 s each
        if other:
            run.run.write(dataclasses.replace(run.run.record(), fingerprint="another"))
        run.emit("progress", seconds, done=1, total=2, unit="prompts", label="")
        run.finish(state)
    watcher = ExperimentWatcher(exp.root, home)
    row = watcher.look(stage).row(stage)
    assert row is not None and row.note == took
    assert "   4s   " in unstyled(title(watcher.look(stage, 2), 100))


def test_the_time_of_a_training_is_that_of_all_its_runs(home: Path):
    exp = experiment(home, "resumed")
    for place, (first, state) in enumerate(((1, "succeeded"), (1, "interrupted"), (21, "failed"), (41, "succeeded"))):
        run = SimulatedRun(exp, "train", NOON + 500 * place)  # a start and an end are 1 s each
        run.emit("metric", 50, step=first, seen_tokens=first * 700, loss=5.0, kl=1.0, ce=4.0)
        if state != "interrupted":
            run.finish(state)
    look = ExperimentWatcher(exp.root, home).look
    row = look("train").row("train")
    assert row is not None and row.note == "2m 35s"
    for back, said in ((0, "2m 35s"), (1, "1m 43s"), (3, "52s")):
        assert f"   {said}   on cpu" in unstyled(title(look("train", back), 100))
    old = look("train", 1)
    whole = unstyled(title(old, 200))
    narrow = title(old, width(whole) - 3)
    assert "on cpu" not in unstyled(narrow)
    assert whole.endswith(unstyled(narrow)[-len("  newer (])") :]), "which run it is stays"
    told = figures_of(reader_of("resumed", home).read())["train_seconds"]
    assert (told.value, told.how) == (155, "over 3 runs")
    # The next run goes back behind the newest one, which counts no more, and into the one before it.
    run = SimulatedRun(exp, "train", NOON + 2000)
    run.emit("metric", 50, step=31, seen_tokens=31 * 700, loss=5.0, kl=1.0, ce=4.0)
    run.finish()
    row = look("train").row("train")
    told = figures_of(reader_of("resumed", home).read())["train_seconds"]
    assert row is not None and (row.note, told.value, told.how) == ("2m 35s", 155, "over 3 runs")
