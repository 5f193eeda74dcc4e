"""What is recorded of an export, and told of it in any process: how far it is, its end, that it was killed."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs import export_run, record
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import Run
from tests.builders import stage_context

_MADE = """
import sys, time
from pathlib import Path
from bitnet_core.files import half_written
from bitnet_core.runs import export_run
from bitnet_core.runs.experiment import Experiment
one = Experiment.open(Path(sys.argv[1]))
waits = lambda: print("waits", flush=True)
with export_run.export_lock(one, waits), export_run.recorded(one, ["gguf"], [], str) as told:
    told.tell(step=2)
    with half_written.scratch_beside(one.root / "exports" / "one"):
        print("at work", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def made(tmp_path: Path) -> Experiment:
    return stage_context(tmp_path / "one").experiment


@contextmanager
def another_process(made: Experiment, *, leads: bool = True) -> Iterator["subprocess.Popen[str]"]:
    """One that exports the student, and has half written an export. It `leads` a process group."""
    child = subprocess.Popen(
        [sys.executable, "-c", _MADE, str(made.root)], stdout=subprocess.PIPE, text=True, start_new_session=leads
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "at work\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def found(made: Experiment) -> export_run.ExportRun:
    told = export_run.latest(made.root)
    assert told is not None
    return told


def half(made: Experiment) -> list[str]:
    return [one.name for one in (made.root / "exports").iterdir() if one.name.endswith(".part")]


def _record(made: Experiment) -> Run:
    return Run(made.root / "exports" / ".export")


def test_how_far_it_is_and_how_it_ended_is_recorded(made: Experiment) -> None:
    assert export_run.latest(made.root) is None
    with export_run.recorded(made, ["gguf", "hf"], [], str) as told:
        assert (found(made).state, found(made).step, found(made).pid) == ("running", None, os.getpid())
        told.tell(step=2)
        told.tell(written=["one.gguf"])
        assert found(made).active and found(made).written == ("one.gguf",)
        told.tell(verified=False, problems=["It differs."])
    ended = found(made)
    assert (ended.state, ended.step, ended.formats) == ("succeeded", 2, ("gguf", "hf"))
    assert (ended.verified, ended.problems) == (False, ("It differs.",))
    with pytest.raises(BitnetError), export_run.recorded(made, ["hf"], [], lambda error: f"<{error}>"):
        raise BitnetError("No room.")
    assert (found(made).state, found(made).why, found(made).written) == ("failed", "<No room.>", ())
    assert not History.read(made).entries, "it is none of the experiment's runs"


def test_one_that_is_stopped_removes_what_it_has_half_written(
    made: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    with another_process(made) as child:
        assert half(made) and found(made).active
        assert main(["--root", str(made.root), "stop", "export"]) == 0
        assert child.wait() != 0
    assert capsys.readouterr().out == "export is stopped\n"
    assert found(made).state == "cancelled" and not half(made)
    assert main(["--root", str(made.root), "stop", "export"]) == 2
    assert "No export of" in capsys.readouterr().err


def test_one_that_a_script_has_begun_is_killed_alone(made: Experiment) -> None:
    with another_process(made, leads=False) as child:
        os.kill(child.pid, signal.SIGSTOP)  # it answers no request
        assert main(["--root", str(made.root), "stop", "export", "--now"]) == 0
        assert child.wait(timeout=5) == -signal.SIGKILL
    assert found(made).state == "cancelled" and not half(made)


@pytest.mark.parametrize("now", [False, True])
def test_one_that_waits_for_the_end_of_the_one_that_is_stopped_goes_on(
    made: Experiment, now: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_run, "STOP_SECONDS", 3.0)
    with another_process(made) as child:
        code = [sys.executable, "-c", _MADE, str(made.root)]
        with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as next_one:
            try:
                assert next_one.stdout is not None and next_one.stdout.readline() == "waits\n"
                assert export_run.stop(made.root, now=now) == "cancelled"
                assert child.wait() != 0
                assert "at work\n" in iter(next_one.stdout.readline, "")
                assert found(made).active and found(made).pid == next_one.pid
                assert next_one.poll() is None
            finally:
                next_one.kill()


def test_one_that_was_killed_is_told_as_such_and_what_it_left_is_removed(made: Experiment) -> None:
    with another_process(made) as child:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert found(made).state == "interrupted" and half(made)
    assert found(made).why.startswith("its process is gone")
    with pytest.raises(UsageError, match="No export of"):
        export_run.stop(made.root)
    export_run.clear(made.root)
    assert not half(made)


def test_a_copied_folder_has_no_export_that_runs_and_a_renamed_one_still_has(made: Experiment) -> None:
    with export_run.recorded(made, ["gguf"], [], str):
        copy = made.root.with_name("copy")
        shutil.copytree(made.root, copy)
        assert export_run.latest(copy) is None
    moved = made.root.rename(made.root.with_name("moved"))
    told = export_run.latest(moved)
    assert told is not None and told.state == "succeeded"


def test_of_one_on_another_host_it_is_not_said_that_it_was_killed(made: Experiment) -> None:
    with export_run.recorded(made, ["gguf"], [], str):
        other = replace(_record(made).record(), host="lab", boot_id="other", pid=2**22 + 1)
    _record(made).events_path.unlink()
    _record(made).write(other)
    assert found(made).host == "lab" and not found(made).active
    with pytest.raises(UsageError, match="runs on lab; stop it there"):
        export_run.stop(made.root)


def test_a_disk_that_takes_no_record_prevents_no_export(made: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    with export_run.recorded(made, ["gguf"], [], str) as told:
        assert (_record(made).path / record.BALLAST).stat().st_size > 0
        monkeypatch.setattr(Run, "write", full)
        told.tell(step=3)
    assert not (_record(made).path / record.BALLAST).exists()
    shutil.rmtree(made.root / "exports")
    (made.root / "exports").write_text("in the way")
    with export_run.recorded(made, ["gguf"], [], str) as told:
        told.tell(step=3)
    assert export_run.latest(made.root) is None
