"""What a run has open is removed or replaced: it stops, says so, and never counts as succeeded."""

import dataclasses
import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.files import half_written
from bitnet_core.runs import presence, worker
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import EventWriter
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.launch import launch, lock_path
from bitnet_core.runs.presence import Gone, GoneWithCopy, Presence
from bitnet_core.runs.record import Run, RunRecord
from bitnet_core.settings.resolve import from_values
from tests.builders import followed

Starter = Callable[[str, str], Run]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Starter:
    """Launch a fake stage in a real process."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent / 'fake_stages'}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("FAKE_STAGES", "1")

    def starter(stage: str, what: str) -> Run:
        monkeypatch.setenv(f"FAKE_{stage.upper()}", what)
        return launch(from_values({"DRIVE_ROOT": str(tmp_path / "exp")}), stage)

    return starter


def swap_for_a_copy(path: Path) -> None:
    shutil.copytree(path, path.with_name("copy")) if path.is_dir() else shutil.copy(path, path.with_name("copy"))
    path.rename(path.with_name("before"))
    path.with_name("copy").rename(path)


LOSSES: dict[str, Callable[[Path], object]] = {
    "removed": lambda path: shutil.rmtree(path) if path.is_dir() else path.unlink(),
    "renamed": lambda path: path.rename(path.with_name("elsewhere")),
    "replaced by a copy": swap_for_a_copy,
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
@pytest.mark.parametrize(
    ("stage", "what"),
    [("collect", "data"), ("collect", "logs/.collect.lock"), ("train", "checkpoints"), ("eval", "logs/.eval.lock")],
)
def test_a_running_stage_stops(start: Starter, lose: Callable[[Path], object], stage: str, what: str) -> None:
    run = start(stage, "wait")
    lose(run.path.parents[1] / what)
    followed(run)
    record = run.record()
    assert (record.state, record.exit_code) == ("failed", 1)
    assert f"{what} was removed" in str(record.error)
    assert f"while {stage} was using it" in str(record.error)


@pytest.mark.parametrize("stage", ["collect", "train"])
def test_a_stage_that_does_not_notice_has_not_succeeded(start: Starter, stage: str) -> None:
    run = start(stage, "lose")
    followed(run)
    assert run.record().state == "failed"
    assert "was removed or replaced" in str(run.record().error)


@pytest.mark.parametrize("what", ["", "logs"])
def test_the_end_is_recorded_even_if_the_runs_folder_is_gone(start: Starter, what: str) -> None:
    run = start("collect", "wait")
    process = run.record().process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # a stage that notices writes its end while the folder is being removed
    shutil.rmtree(run.path.parents[1] / what)
    os.kill(process.pid, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while not run.record_path.exists() or run.record().state == "running":
        assert time.monotonic() < deadline, "waited a minute in vain"
        time.sleep(0.02)
    assert run.record().state == "failed"
    gone = run.path.parents[1] if not what else run.path.parent / ".collect.lock"
    assert str(run.record().error).startswith(f"{gone} was removed")


def test_a_run_whose_folder_goes_in_its_first_moments_says_so(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the stage itself begins, the run is announced in a folder that may be gone."""
    run = start("train", "done")
    followed(run)
    run.write(dataclasses.replace(run.record(), state="starting", pid=None))

    def announced(*_: object) -> None:
        shutil.rmtree(run.path.parent)
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(run.path))

    monkeypatch.setattr(worker, "_take_over", announced)
    assert _in_this_process(run, monkeypatch) == 1
    assert "/logs/.train.lock was removed while train was using it" in str(run.record().error)


def test_a_run_whose_first_file_finds_no_room_says_so(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the file of its events, in which every later end is announced."""
    run = start("train", "done")
    followed(run)
    run.write(dataclasses.replace(run.record(), state="starting", pid=None))

    def full(path: Path, _: object) -> EventWriter:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(worker, "EventWriter", full)
    assert _in_this_process(run, monkeypatch) == 1
    assert run.record().error == f"The disk is full at {run.events_path}; free space and start the stage again."


@pytest.mark.parametrize("fails", [True, False])
def test_an_end_that_the_disk_does_not_take_is_told_in_the_log(
    start: Starter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    run = start("train", "done")
    followed(run)
    run.write(dataclasses.replace(run.record(), state="starting", pid=None))

    def broken(_: Run, record: RunRecord) -> None:
        raise OSError(errno.EIO, "Input/output error", str(run.record_path))

    def stage(_: StageContext) -> dict[str, Any]:
        monkeypatch.setattr(Run, "write", broken)
        if fails:
            raise BitnetError("The teacher does not answer; start it.")
        return {}

    assert _in_this_process(run, monkeypatch, stage) == 1
    said = ["bitnet: The teacher does not answer; start it."] if fails else []
    said.append("bitnet: How train ended can't be recorded (Input/output error); check the disk.")
    written = capsys.readouterr().err
    assert written.splitlines() == said
    run.output_path.write_text(f"bitnet: an earlier word\nnoise\n{written}")
    told = " ".join(said).replace("bitnet: ", "").removesuffix(".")
    assert run.gone() == f"its process is gone; it said: {told}"


def _in_this_process(
    run: Run, monkeypatch: pytest.MonkeyPatch, stage: Callable[[StageContext], dict[str, Any]] = lambda _: {}
) -> int:
    """Do what the process of a run does around its stage; the exit code."""
    nothing: Callable[..., None] = lambda *_: None  # noqa: E731
    monkeypatch.setattr(worker.handover, "read_from_pipe", dict)
    monkeypatch.setattr(worker.log_filter, "start", lambda _: nothing)
    for owner, name in ((worker.signal, "signal"), (worker.faulthandler, "enable"), (worker, "upload_after")):
        monkeypatch.setattr(owner, name, nothing)
    return worker.main([str(run.path)], stage)


@pytest.mark.parametrize(
    "place",
    ["data.projected/1a2b", "data/.sequences", "data/_tokenizer", "checkpoints/superseded/x", "reports", "logs/a"],
)
def test_what_killed_writers_left_is_removed_in_every_folder(start: Starter, tmp_path: Path, place: str) -> None:
    folder = tmp_path / "exp" / place
    (tmp_path / "exp" / "data").mkdir(parents=True)
    folder.mkdir(parents=True)
    dead, foreign = half_written._writer(2**22 + 1), "deadbeef-1"
    for name in (f".a.json.{dead}-0.part", f".b.json.{foreign}-0.part"):
        (folder / name).touch()
    followed(start("collect", "done"))
    assert [path.name for path in folder.glob(".*.part")] == [f".b.json.{foreign}-0.part"]


# -- in one process --------------------------------------------------------------------------------------


COPY = "the journal was removed; all its answers are in copy: continue."


@pytest.mark.parametrize(
    ("what", "error", "said"),
    [
        ("other", GoneWithCopy(COPY), COPY),
        ("", GoneWithCopy(COPY), f"ROOT was removed while collect was using it; {COPY}"),
        ("data", GoneWithCopy(COPY), f"ROOT/data was removed while collect was using it; {COPY}"),
        ("", Gone("data was removed"), "ROOT was removed while collect was using it; restore it"),
        ("", OSError("x"), "ROOT was removed while collect was using it; restore it"),
    ],
)
def test_what_is_gone_and_where_its_copy_is_are_both_said(
    tmp_path: Path, what: str, error: Exception, said: str
) -> None:
    root = tmp_path / "exp"
    for folder in ("logs", "data", "other"):
        (root / folder).mkdir(parents=True)
    context = StageContext(
        "collect", root / "logs/collect-1", Experiment.open(root), EventWriter(tmp_path / "events")
    )
    lock_path(context.experiment, "collect").touch()

    def stage(_: StageContext) -> dict[str, Any]:
        shutil.rmtree(root / what)
        raise error

    with context.presence:
        worker._watch(context)
        with pytest.raises(Gone) as raised:
            worker._in_presence(lambda: stage(context), context)
    assert str(raised.value).startswith(said.replace("ROOT", str(root)))


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.touch()
    return path


def test_what_stays_and_grows_is_there(watched: Path) -> None:
    with Presence("train") as held:
        held.watch(watched)
        held.watch(watched.parent)
        watched.write_text("more")
        (watched.parent / "another").touch()
        watched.chmod(0o600)
        held.require()
        assert held.lost() == ""


def test_a_file_that_only_grows_is_missed_when_it_shrinks(watched: Path) -> None:
    watched.write_text("more")
    with Presence("train") as held:
        held.watch(watched, grows=True)
        for text in ("more", "and more", "and even more"):
            watched.write_text(text)
            assert held.lost() == ""
        watched.write_text("and more")
        with pytest.raises(Gone, match="file was cut short while train was using it"):
            held.require()


def test_a_new_folder_never_passes_for_the_removed_one(tmp_path: Path) -> None:
    """Many file systems give the next folder the same inode number, unless the removed one is held open."""
    folder = tmp_path / "data"
    for _ in range(20):
        folder.mkdir()
        with Presence("collect") as held:
            held.watch(folder, "start again")
            folder.rmdir()
            folder.mkdir()
            with pytest.raises(Gone, match=r"data was removed or replaced while collect was using it; start again\."):
                held.require()
        folder.rmdir()


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (errno.ESTALE, "was removed"),
        (errno.EIO, "can't be reached any more"),
        (errno.ENOTCONN, "can't be reached any more"),
        (errno.EACCES, "can't be reached any more"),
    ],
)
def test_a_mount_that_went_away(watched: Path, monkeypatch: pytest.MonkeyPatch, number: int, what: str) -> None:
    with Presence("collect") as held:
        held.watch(watched)

        def stat(_path: Path) -> tuple[int, int]:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(presence, "_place", stat)
        with pytest.raises(Gone, match=what):
            held.require()


def test_inode_numbers_that_do_not_last_are_not_believed(watched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))
    monkeypatch.setattr(presence, "_place", lambda path: (path.stat().st_dev, next(numbers)))
    with Presence("collect") as held:
        held.watch(watched)
        held.require()
        watched.unlink()
        with pytest.raises(Gone, match="was removed"):
            held.require()
