"""The app beside experiments, folders, records and events that can't be read."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from bitnet_core.errors import BitnetError
from bitnet_core.runs.event_files import EventReader
from bitnet_core.runs.events import to_dict
from bitnet_core.runs.history import History
from bitnet_tui import plain
from bitnet_tui.app import BitnetApp
from bitnet_tui.services.launching import launch
from bitnet_tui.start import main
from bitnet_tui.view.run_fold import RunFold
from bitnet_tui.view.stage_rows import StageRow
from bitnet_tui.view.watch import ExperimentWatcher, worth_seeing
from bitnet_tui.view.workspace import WorkspaceWatcher
from tests.fuzzing import fuzz
from tests.nobody import as_nobody, close, everybodys_folder
from tests.runs.hostile import objects_like
from tests.runs.test_event_reader import EVENTS
from tests.runs.test_records import FULL, GOOD
from tests.tui.conftest import RecordingLaunch
from tests.tui.pilots import SIZES, settled, shown, words
from tests.tui.simulated import NOON, SimulatedRun, experiment, finished_experiment


def _write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


BAD_RECORDS: list[Callable[[Path], object]] = [
    _write(""), _write("{}"), _write("[" * 200_000), _write(json.dumps(GOOD | {"created": "noon"})),
    _write(json.dumps(GOOD | {"created": 1e300})), Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero"),
]  # fmt: skip


@pytest.mark.parametrize("make", BAD_RECORDS)
def test_a_bad_record_is_told_and_the_rest_is_shown(home: Path, make: Callable[[Path], object]):
    exp = finished_experiment(home)
    (exp.logs / "train-bad").mkdir()
    make(exp.logs / "train-bad" / "run.json")
    (row,) = WorkspaceWatcher(home).look()
    assert (row.qei, row.problem) == (7.281, "")
    assert "train-bad/run.json" in row.unreadable
    assert [stage.state for stage in row.stages if stage.name == "train"] != ["new"]
    assert "train-bad/run.json" in plain.listing(home)
    view = ExperimentWatcher(exp.root, home).look("train")
    assert view.run is not None
    assert "train-bad/run.json" in view.problem


@pytest.mark.parametrize("size", SIZES)
async def test_the_list_and_the_experiment_show_the_reason(home: Path, size: tuple[int, int]):
    exp = finished_experiment(home)
    (exp.logs / "a").mkdir()
    (exp.logs / "a" / "run.json").write_text("[]")
    async with BitnetApp(home, launch=RecordingLaunch()).run_test(size=size) as pilot:
        await settled(pilot)
        assert "demo !" in shown(pilot)
        assert "logs/a/run.json is not" in words(pilot)
        assert "7.28" in shown(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert "got `array`); move" in words(pilot)


def _no_env(root: Path) -> None:
    (root / ".env").unlink()
    (root / ".env").symlink_to(".env")


def _binary_env(root: Path) -> None:
    (root / ".env").write_bytes(b"SEED=\xff\x00\n")


def _bad_value(root: Path) -> None:
    (root / ".env").write_text("KD_TAU=9000\n")


def _endless_reference(root: Path) -> None:
    (root / ".env").write_text("SEED=${SEED}\nKD_TAU=${SEED}\n")


def _logs_in_a_loop(root: Path) -> None:
    (root / "logs").rmdir()
    (root / "logs").symlink_to("logs")


@pytest.mark.parametrize("harm", [_no_env, _binary_env, _bad_value, _endless_reference, _logs_in_a_loop])
def test_an_experiment_that_cannot_be_resolved_is_one_row(home: Path, harm: Callable[[Path], None]):
    finished_experiment(home, "good")
    harm(experiment(home, "bad").root)
    rows = {row.name: row for row in WorkspaceWatcher(home).look()}
    assert set(rows) == {"good", "bad"}
    assert rows["bad"].problem
    assert (rows["good"].qei, rows["good"].problem) == (7.281, "")
    text = plain.listing(home)
    assert "good  (" in text
    assert rows["bad"].problem.split("\n")[0] in text


def test_folders_that_may_not_be_entered_are_rows_at_the_end(monkeypatch: pytest.MonkeyPatch):
    def listed() -> list[list[str]]:
        return [[row.name, row.problem] for row in WorkspaceWatcher(place).look()]

    with everybodys_folder() as place:
        monkeypatch.chdir(place)  # its .env is read too
        finished_experiment(place, "mine")
        for name in ("lost+found", "theirs", ".Trash-1000"):
            (place / name / "logs").mkdir(parents=True)
        experiment(place, "no-logs")
        listed()  # what it imports is imported while it may be read
        for name in ("lost+found", "theirs", ".Trash-1000", "no-logs/logs"):
            close(place / name)
        found = as_nobody(listed)
        close(place)
        nothing = as_nobody(listed)
        place.chmod(0o755)
    problems = dict(found)
    assert sorted(name for name, _ in found[:2]) == ["mine", "no-logs"]
    assert [name for name, _ in found[2:]] == ["lost+found", "theirs"]
    assert problems["mine"] == ""
    assert all("Permission denied" in problems[name] for name in ("lost+found", "theirs", "no-logs"))
    assert len(nothing) == 1
    assert nothing[0][0] == place.name
    assert "Permission denied" in nothing[0][1]


@pytest.mark.parametrize("option", ["--home", "--root"])
@pytest.mark.parametrize("below", ["", "deeper"])
def test_a_folder_that_may_not_be_entered_is_one_sentence(
    option: str, below: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def said() -> list[Any]:
        return [main(["--plain", option, str(place / "closed" / below)]), capsys.readouterr().err]

    with everybodys_folder() as place:
        monkeypatch.chdir(place)
        (place / "closed" / "deeper").mkdir(parents=True)
        said()  # what it imports is imported while it may be read
        close(place / "closed")
        code, complaint = as_nobody(said)
    assert code == 2
    assert complaint.count("\n") == 1
    assert "can't be read (Permission denied); give" in complaint


def test_an_experiment_in_which_something_runs_comes_first(home: Path):
    """Its folder looks old, because the clock was put back before the run began."""
    live = experiment(home, "live")
    run = SimulatedRun(live, "train", NOON, alive=True)
    try:
        finished_experiment(home, "ended")
        for path in (live.root, live.logs):
            os.utime(path, (1.0, 1.0))
        assert [row.name for row in WorkspaceWatcher(home).look()] == ["live", "ended"]
    finally:
        run.end_process()


@pytest.mark.parametrize("stage", ["banana", "", "../..", "a\x00b", "pipeline ", "TRAIN"])
def test_a_run_of_an_unknown_stage_is_not_the_one_to_see(home: Path, stage: str):
    exp = finished_experiment(home)
    (exp.logs / "later").mkdir()
    record = GOOD | {"stage": stage, "created": NOON * 2, "number": 99}
    (exp.logs / "later" / "run.json").write_text(json.dumps(record))
    assert ExperimentWatcher(exp.root, home).look(None).stage == "eval"


def _history(home: Path, **argvs: list[str]) -> History:
    """An experiment with one ended run of each stage, in the order of their numbers, at the same time."""
    exp = experiment(home, "one")
    for number, (stage, argv) in enumerate(argvs.items(), 1):
        (exp.logs / f"{stage}-{number}").mkdir()
        record = GOOD | {"stage": stage, "argv": argv, "number": number}
        (exp.logs / f"{stage}-{number}" / "run.json").write_text(json.dumps(record))
    return History.read(exp)


@pytest.mark.parametrize(
    ("argvs", "seen"),
    [
        ({"train": [], "eval": []}, "eval"),
        ({"eval": [], "train": []}, "train"),
        ({"train": [], "pipeline": []}, "pipeline"),
        ({"pipeline": [], "train": ["pipeline pipeline-1"], "eval": ["pipeline pipeline-1"]}, "pipeline"),
        ({"pipeline": [], "train": ["pipeline pipeline-1"], "eval": []}, "eval"),
        ({"pipeline": [], "eval": ["pipeline pipeline-9"]}, "eval"),
        ({"train": [], "teacher": [], "pipeline": []}, "pipeline"),
        ({}, "pipeline"),
    ],
)
def test_the_stage_worth_seeing_is_the_one_launched_last(home: Path, argvs: dict[str, list[str]], seen: str):
    rows: tuple[StageRow, ...] = ()
    assert worth_seeing(rows, _history(home, **argvs)) == seen


def test_what_a_pipeline_waited_for_stays_in_view_when_both_are_stopped(home: Path):
    exp = experiment(home, "one")
    train, pipeline = SimulatedRun(exp, "train"), SimulatedRun(exp, "pipeline", NOON + 5)
    collect = SimulatedRun(exp, "collect", NOON + 6, by=pipeline).finish()
    pipeline.emit("progress", done=1, total=5, unit="stages", label="collect", run=collect.run.id)
    pipeline.emit("progress", done=2, total=5, unit="stages", label="train", run=train.run.id)
    train.finish("cancelled")
    pipeline.finish("cancelled")
    assert worth_seeing((), History.read(exp)) == "train"


def test_events_that_cannot_be_read_harm_only_their_run(home: Path):
    exp = finished_experiment(home)
    (trained,) = exp.logs.glob("train-*")
    (trained / "events.jsonl").unlink()
    (trained / "events.jsonl").mkdir()
    view = ExperimentWatcher(exp.root, home).look("train")
    assert view.run is not None
    assert view.run.state == "succeeded"
    assert "not a regular file" in view.run.view.log[-1]


def test_what_is_behind_a_long_line_is_shown(home: Path):
    exp = experiment(home, "one")
    run = SimulatedRun(exp, "train")
    with run.run.events_path.open("ab") as sink:
        sink.write(b'{"kind":"log","message":"' + b"y" * 17_000_000 + b'"}\n')
    run.emit("log", level="info", message="behind")
    run.finish()
    view = ExperimentWatcher(exp.root, home).look("train")
    assert view.run is not None
    told, behind, _end = view.run.view.log[-3:]
    assert "Line 2 of events.jsonl was skipped" in told
    assert behind.endswith("behind")


def check_events(data: bytes, folder: Path) -> None:
    """Whatever the events are, the fold takes them and gives a view."""
    path = folder / "events.jsonl"
    path.write_bytes(data + b"\n" + data)
    fold, reader = RunFold(), EventReader(path, remark=True)
    while (events := reader.read_new()) or not reader.at_end:
        fold.feed(events)
        assert fold.view().revision > 0
        assert [to_dict(one) for one in events]


@fuzz(100)
@given(EVENTS)
def test_any_events_fold_into_a_view(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    check_events(data, tmp_path_factory.mktemp("e"))


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


def check_record(data: bytes, home: Path) -> None:
    """Whatever one record is, the list and the experiment's screen have their view."""
    root = home / "one"
    (root / "logs" / "odd").mkdir(parents=True, exist_ok=True)
    (root / "logs" / "odd" / "run.json").write_bytes(data)
    (row,) = WorkspaceWatcher(home).look()
    assert len(row.stages) == 6
    for stage in (None, "train", "eval"):
        assert ExperimentWatcher(root, home).look(stage).rows
    assert "one  (" in plain.listing(home)


RECORDS: Any = objects_like([GOOD, FULL, FULL | {"stage": "eval"}, FULL | {"stage": "pipeline", "state": "running"}])


@fuzz(50)
@given(RECORDS)
def test_any_record_leaves_a_list_and_a_screen(looked_at: Path, data: bytes):
    check_record(data, looked_at)


@pytest.mark.parametrize("ended", [("cancelled", "cancelled"), ("failed", "failed"), ("cancelled", "interrupted")])
def test_what_is_shown_stays_where_a_pipeline_ended(home: Path, ended: tuple[str, str]):
    """A pipeline is told of its stage's end a moment later: until then, too, the stage is shown."""
    exp = experiment(home, "one")
    pipeline = SimulatedRun(exp, "pipeline", NOON, alive=True)
    collect = SimulatedRun(exp, "collect", NOON + 1, alive=True)
    for number, one in enumerate((pipeline, collect), 1):
        argv = [f"pipeline {pipeline.run.id}"] if one is collect else ["bitnet-tui"]
        one.run.write(dataclasses.replace(one.run.record(), number=number, argv=argv))
    watcher, seen = ExperimentWatcher(exp.root, home), []
    seen.append(watcher.look(None).stage)
    assert plain.going_on(home, None, ()) == ["collect in one keeps running; open bitnet-tui again to watch it."]
    for one in (pipeline, collect):
        stopped = plain.going_on(home, None, {one.run.id})
        assert stopped == ["collect in one is stopping. It saves its work first."]
    for live, state in zip((collect, pipeline), ended, strict=True):
        live.end_process()
        if state != "interrupted":
            live.finish(state)
        seen.append(watcher.look(None).stage)
    assert seen == ["collect"] * 3
    assert ExperimentWatcher(exp.root, home).look(None).stage == "collect"


def _gone(root: Path) -> None:
    shutil.rmtree(root)


def _emptied(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def _a_file(root: Path) -> None:
    shutil.rmtree(root)
    root.touch()


def _a_circle(root: Path) -> None:
    shutil.rmtree(root)
    root.symlink_to(root)


async def test_an_open_experiment_that_vanishes_is_not_made_anew(home: Path):
    root = finished_experiment(home).root
    async with BitnetApp(home, root).run_test(size=(120, 36)) as pilot:
        await settled(pilot)
        _gone(root)
        await pilot.press("p")
        await settled(pilot)
        assert "Whole pipeline: not started" in shown(pilot)
        await pilot.press("escape")
        await settled(pilot)
        assert f"✗ {root} is not" in words(pilot)
        assert "not run yet" not in shown(pilot)
        assert "Press p" not in shown(pilot)
    assert not root.exists()


@pytest.mark.parametrize("vanish", [_gone, _emptied, _a_file])
def test_what_is_no_experiment_any_more_is_said_and_not_started(home: Path, vanish: Callable[[Path], None]):
    root = finished_experiment(home).root
    vanish(root)
    said = f"{root} is not an experiment any more; put it back, or go back to the list with esc."
    assert ExperimentWatcher(root, home).look(None).problem == said
    with pytest.raises(BitnetError, match="is not an experiment any more"):
        launch(home, root, "dryrun")
    assert not root.is_dir() or not list(root.iterdir())


def test_an_open_experiment_that_leads_in_a_circle_is_a_problem(home: Path):
    root = finished_experiment(home).root
    _a_circle(root)
    assert "can't be read" in ExperimentWatcher(root, home).look(None).problem
