"""The upload beside real runs: it copies while they run, sees their end, and never fails them."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
import pytest

from bitnet_core.cli import stages
from bitnet_core.cli.main import main
from bitnet_core.runs.event_files import read_events
from bitnet_core.runs.events import Alert, Event, Upload
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.launch import launch
from bitnet_core.runs.record import Run
from bitnet_core.settings.resolve import from_values
from tests.storage.syncing import experiment_at, stored

_T = TypeVar("_T")
Starter = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starter:
    """Launch a fake stage in a real process, with a folder as the target."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "runs" / "fake_stages"), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_STAGES", "1")

    def starter(stage: str = "train", what: str = "done", **values: str) -> Run:
        monkeypatch.setenv(f"FAKE_{stage.upper()}", what)
        places = {"DRIVE_ROOT": str(tmp_path / "exp"), "STORAGE_LOCAL_DIR": str(tmp_path / "copy")}
        return launch(from_values(places | values), stage)

    return starter


def eventually(look: Callable[[], _T | None]) -> _T:
    deadline = time.monotonic() + 60  # a turn that a killed push had may count for 30 seconds
    while not (found := look()):
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.05)
    return found


def events_of(run: Run) -> list[Event]:
    return read_events(run.events_path)


def ended_upload(experiment: Experiment, other_than: str = "") -> Run:
    """The experiment's newest upload, when it has ended."""

    def look() -> Run | None:
        entry = History.read(experiment).latest("upload")
        return entry.run if entry and not entry.run.is_active() and entry.run.id != other_than else None

    return eventually(look)


def test_a_stage_is_copied_with_its_end(start: Starter, tmp_path: Path) -> None:
    run = start()
    upload = ended_upload(experiment_at(tmp_path / "exp"))
    assert upload.state() == "succeeded", upload.record().error
    copied = stored(tmp_path)
    assert copied["checkpoints/mini_bitnet_step_000.pt"] == json.dumps({"made by": run.id}).encode()
    assert b'"succeeded"' in copied[f"logs/{run.id}/run.json"]
    assert copied[f"logs/{run.id}/events.jsonl"].splitlines()[-1].count(b"run_finished") == 1
    assert "settings.env" in copied
    assert not any(name.startswith("logs/upload-") for name in copied)
    uploads = [one for one in events_of(upload) if isinstance(one, Upload)]
    assert {one.state for one in uploads} == {"done"}


def test_a_checkpoint_is_copied_while_the_stage_runs(start: Starter, tmp_path: Path) -> None:
    run = start(what="wait")
    checkpoints = tmp_path / "exp" / "checkpoints"
    (checkpoints / "mini_bitnet_step_00000010.pt").write_bytes(b"ten")
    (checkpoints / "mini_bitnet_step_00000010_health.json").write_bytes(b"{}")
    copied = tmp_path / "copy" / "exp" / "checkpoints" / "mini_bitnet_step_00000010.pt"
    eventually(copied.is_file)
    assert run.is_active()
    told = eventually(lambda: [one for one in events_of(run) if isinstance(one, Upload) and "0010.pt" in one.path])
    assert told[0].state == "done"
    upload = History.read(experiment_at(tmp_path / "exp")).active("upload")
    assert upload is not None
    pid = upload.record().pid
    assert pid is not None
    training = run.record().pid
    assert training is not None
    assert psutil.Process(pid).nice() == min(19, psutil.Process(training).nice() + 12)
    group = Path(f"/proc/{pid}/autogroup")
    session = group.read_text() if group.exists() else ""
    assert not session or session.endswith("nice 12\n")
    run.stop()
    assert ended_upload(experiment_at(tmp_path / "exp")).state() == "succeeded"
    assert b'"cancelled"' in stored(tmp_path)[f"logs/{run.id}/run.json"]


def test_with_end_nothing_is_copied_before_the_end(start: Starter, tmp_path: Path) -> None:
    run = start(what="wait", STORAGE_SYNC="end")
    time.sleep(1.0)
    assert not (tmp_path / "copy").exists()
    run.stop()
    ended_upload(experiment_at(tmp_path / "exp"))
    assert f"logs/{run.id}/run.json" in stored(tmp_path)


@pytest.mark.parametrize("values", [{"STORAGE_SYNC": "off"}, {"STORAGE_LOCAL_DIR": ""}])
def test_without_sync_or_target_there_is_no_upload(start: Starter, tmp_path: Path, values: dict[str, str]) -> None:
    run = start(**values)
    eventually(lambda: not run.is_active())
    time.sleep(0.5)
    assert History.read(experiment_at(tmp_path / "exp")).latest("upload") is None
    assert not (tmp_path / "copy").exists()


def test_a_target_that_refuses_fails_no_stage(start: Starter, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    run = start(what="wait", STORAGE_LOCAL_DIR=str(tmp_path / "file" / "copy"))
    alert = eventually(lambda: [one for one in events_of(run) if isinstance(one, Alert)])[0]
    assert alert.code == "storage_refused" and str(tmp_path / "file") in alert.message
    run.stop()
    assert run.state() == "cancelled"
    upload = ended_upload(experiment_at(tmp_path / "exp"))
    assert upload.state() == "failed" and str(tmp_path / "file") in (upload.record().error or "")


def test_a_killed_upload_is_made_up_for_by_the_next(start: Starter, tmp_path: Path) -> None:
    run = start(what="wait")
    upload = eventually(lambda: History.read(experiment_at(tmp_path / "exp")).active("upload"))
    upload.kill()
    run.stop()
    upload = ended_upload(experiment_at(tmp_path / "exp"), other_than=upload.id)
    assert upload.state() == "succeeded"
    assert b'"cancelled"' in stored(tmp_path)[f"logs/{run.id}/run.json"]


@pytest.mark.parametrize("mode", ["live", "end"])
@pytest.mark.parametrize("where", ["copy", "file/copy"])
def test_who_waits_for_a_stage_is_told_how_its_copy_stands(
    start: Starter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    mode: str, where: str,
) -> None:  # fmt: skip
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "my work").mkdir()
    monkeypatch.setenv("STORAGE_LOCAL_DIR", str(tmp_path / where))
    monkeypatch.setenv("STORAGE_SYNC", mode)
    monkeypatch.setattr(stages, "_UPLOAD_SECONDS", 30)
    monkeypatch.setenv("FAKE_TRAIN", "done")
    root = str(tmp_path / "my work" / "exp")
    assert main(["--root", root, "train"]) == 0
    said = capsys.readouterr().err.splitlines()[-1]
    if where == "copy":
        assert said == "bitnet: the copy is up to date."
    else:
        assert said.startswith("bitnet: the copy was not brought up to date: ") and str(tmp_path / "file") in said
        assert said.endswith(f" `bitnet --root '{root}' store push` tries it again.")
    told = [event.advice for run in [History.read(experiment_at(Path(root))).newest()] for event in events_of(run)
            if isinstance(event, Alert)]  # fmt: skip
    assert all("Training" not in advice for advice in told)
