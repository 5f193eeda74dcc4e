"""What is asked before a run is stopped: it promises only what the stage keeps."""

from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.runs.catalog import stage
from bitnet_core.runs.events import Progress
from bitnet_tui.app import BitnetApp
from bitnet_tui.view import stopping
from bitnet_tui.view.stage_rows import QUEUED, StageRow, ending_with
from bitnet_tui.view.watch import ExperimentWatcher
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import notices, settled, shown, until, words
from tests.tui.simulated import NOON, SimulatedRun, experiment, leave_traces, ready, save_checkpoint

_FITTING = Progress(done=168, total=512, unit="steps", label="fitting the student to the model it starts from")


@pytest.mark.parametrize(
    ("name", "active", "asked", "told"),
    [
        ("train", ("train",), "Stop “Train the student”?", "It saves its work first; r continues from there. "),
        ("teacher", ("teacher",), "Stop “Teacher baseline”?", "It saves its work first; r continues from there. "),
        ("eval", ("eval",), "Stop “Evaluate”?", "It loses its work so far; r starts it from the beginning. "),
        (
            "dryrun",
            ("dryrun", "pipeline"),
            "Stop “7B dry run” and the pipeline?",
            "It loses its work so far, and the pipeline that it belongs to ends with it; p starts it from the "
            "beginning. ",
        ),
        (
            "pipeline",
            ("train", "pipeline"),
            "Stop “Whole pipeline”?",
            "The running stage saves its work first; p continues from there. ",
        ),
        (
            "pipeline",
            ("eval", "pipeline"),
            "Stop “Whole pipeline”?",
            "The running stage loses its work so far; p starts it from the beginning. ",
        ),
    ],
)
def test_a_stop_promises_what_the_stage_keeps(name: str, active: tuple[str, ...], asked: str, told: str) -> None:
    rows = [StageRow(one, one, "running", keeps=stage(one).resumes) for one in active]
    question, why, *_ = stopping.question(name, rows)
    assert (question, why.removesuffix("Leaving the app (q) does not stop it.")) == (asked, told)
    assert stopping.keeps(name, rows) == ("saves" in told)
    if len(rows) == 1:  # and its key then is “Resume”, else “Run stage”
        assert replace(rows[0], state="cancelled").resumable == ("saves" in told)


def test_a_training_whose_start_is_being_made_keeps_nothing_until_its_first_step():
    row = StageRow("train", "Train the student", "running", keeps=False)
    assert (
        "It loses its work so far; r starts it from the beginning."
        in stopping.question("train", [row.at_work(_FITTING)])[1]
    )
    stepped = row.at_work(Progress(done=1, total=8, unit="steps", step=1))
    assert "It saves its work first; r continues from there." in stopping.question("train", [stepped])[1]


def _trained(root: Path, home: Path) -> StageRow:
    return next(one for one in ExperimentWatcher(root, home).look(None).rows if one.name == "train")


def test_a_training_whose_start_is_half_made_goes_on_from_there_unless_another_is_wanted(home: Path):
    exp = experiment(home, "half")
    run = SimulatedRun(exp, "train")
    run.emit("progress", done=168, total=512, unit="steps", label=_FITTING.label)
    for kept in (False, True):
        row = _trained(exp.root, home)
        assert (row.state, row.keeps) == ("interrupted", kept)
        (exp.checkpoints / ".start-read.pt").touch()
    env = (exp.root / ".env").read_text()
    for changed, kept in (
        ("LR=3e-4", True),
        ("TRAIN_BATCH_SIZE=3", True),
        ("MAX_SEQ_LEN=96", False),
        ("SEED=7", False),
    ):
        (exp.root / ".env").write_text(f"{env}\n{changed}\n")
        assert _trained(exp.root, home).keeps is kept, changed
    run.train(1, 2)
    save_checkpoint(exp, 2)
    for changed, used in (("LR=3e-4", True), ("TRAIN_BATCH_SIZE=3", False), ("MINI_DIM=512", False)):
        (exp.root / ".env").write_text(f"{env}\n{changed}\n")
        row = _trained(exp.root, home)
        assert (row.keeps, row.used) == (True, used), changed
        told = "starts it from the beginning, as settings or traces have changed since."
        assert (told in stopping.question("train", [row])[1]) is not used


@pytest.mark.parametrize("reached", [False, True])
def test_a_stage_beside_a_pipeline_ends_with_it_only_once_the_pipeline_waits_for_it(home: Path, *, reached: bool):
    exp = experiment(home, "beside")
    train = SimulatedRun(exp, "train", NOON - 60, alive=True)
    pipeline = SimulatedRun(exp, "pipeline", NOON, alive=True)
    teacher = SimulatedRun(exp, "teacher", NOON, alive=True, by=pipeline)
    runs = [train, pipeline, teacher]
    at = train if reached else teacher
    pipeline.emit("progress", done=0, total=5, unit="stages", label="", run=at.run.id)
    if reached:
        teacher.finish()
        SimulatedRun(exp, "collect", NOON, by=pipeline).finish()
        ready(exp.root)
    try:
        rows = ExperimentWatcher(exp.root, home).look(None).rows
        row = {one.name: one for one in rows}
        assert [one.name for one in rows if one.note == QUEUED] == ["collect"] * (not reached) + ["eval", "dryrun"]
        assert [one.name for one in ending_with(row["train"], rows)] == ["pipeline"] * reached + ["train"]
        assert [one.name for one in ending_with(row["pipeline"], rows)] == [
            "pipeline",
            "train" if reached else "teacher",
        ]
    finally:
        for one in runs:
            one.end_process()


async def test_a_pipeline_goes_on_when_a_stage_beside_it_is_stopped(home: Path):
    exp = experiment(home, "beside")
    leave_traces(exp)
    train = SimulatedRun(exp, "train", alive=True)
    train.train(0, 100)
    runs = [train]
    try:
        pilot_of = BitnetApp(home, exp.root, launch=RecordingLaunch()).run_test(size=(80, 24), notifications=True)
        async with pilot_of as pilot:
            await settled(pilot)
            await pilot.press("p")
            awaits = "“Train the student” is already running; the pipeline waits for it instead of starting it again."
            await until(pilot, lambda: awaits in notices(pilot))
            runs.append(pipeline := SimulatedRun(exp, "pipeline", alive=True))
            runs.append(teacher := SimulatedRun(exp, "teacher", alive=True, by=pipeline))
            pipeline.emit("progress", done=0, total=5, unit="stages", label="teacher", run=teacher.run.id)
            await until(pilot, lambda: "pipeline 0/5" in shown(pilot) and "teacher …" in shown(pilot))
            await pilot.press("up")
            await until(pilot, lambda: "f follows what runs" in shown(pilot))
            await pilot.press("down")
            await until(pilot, lambda: "▸ train 50%" in shown(pilot) and "f follows what runs" not in shown(pilot))
            await pilot.press("s")
            await until(pilot, lambda: "Stop “Train the student”?" in words(pilot))
            assert "the pipeline" not in words(pilot).split("Stop “Train the student”?")[1].split("Leaving")[0]
            await pilot.press("enter")
            await settled(pilot)
            assert train.child is not None and train.child.wait(60) == -15
            assert all(one.child is not None and one.child.poll() is None for one in (pipeline, teacher))
            assert pilot.app.confirmed <= {train.run.id}
    finally:
        for live in runs:
            live.end_process()
