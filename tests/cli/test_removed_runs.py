"""A run whose folder is removed while a command follows it, and a watch that is ended."""

import argparse
import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bitnet_core.cli import stages
from bitnet_core.errors import BitnetError
from bitnet_core.runs import record as records
from bitnet_core.runs.record import NoRecord, Run
from tests.builders import followed

_FAKE = Path(__file__).parents[1] / "runs" / "fake_stages"


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator["subprocess.Popen[str]"]:
    """`bitnet train` with a stage that waits, in `exp` in the current folder, after its first line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(_FAKE), prepend=os.pathsep)
    monkeypatch.setenv("FAKE_STAGES", "1")
    monkeypatch.setenv("FAKE_TRAIN", "wait")
    command = [sys.executable, "-m", "bitnet_core", "train", "--root", "exp"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as shown:
        assert shown.stdout is not None
        assert shown.stdout.readline().startswith("▸ train")
        process = _run().record().process
        assert process is not None
        yield shown
        shown.kill()
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def _run() -> Run:
    return Run(next(Path("exp/logs").glob("train-*")).absolute())


@pytest.mark.parametrize("removed", [lambda run: run.path.parents[1], lambda run: run.path.parent])
def test_the_end_that_a_removed_run_records_is_shown(
    working: "subprocess.Popen[str]", removed: Callable[[Run], Path]
) -> None:
    run = _run()
    process = run.record().process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)  # a stage that notices writes its end while the folder is being removed
    shutil.rmtree(removed(run))
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGCONT)
    out, err = working.communicate(timeout=60)
    recorded = run.record()
    assert working.returncode == recorded.exit_code != 0
    assert recorded.error is not None
    assert recorded.error.split(";")[0] in out
    assert "does not exist" not in err


def _said_when_removed(run: Run) -> str:
    """What following says about a run that is removed after its first event."""
    events = run.follow()
    next(events)
    shutil.rmtree(run.path)
    with pytest.raises(BitnetError) as caught:
        list(events)
    return str(caught.value)


def test_a_removed_run_whose_process_goes_on_is_named_with_its_process(
    working: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "GONE_SECONDS", 0.0)
    run = _run()
    process = run.record().process
    assert process is not None
    os.kill(process.pid, signal.SIGSTOP)
    said = _said_when_removed(run)
    os.kill(process.pid, signal.SIGKILL)
    assert said == (
        f"{run.path} was removed while a command followed the run; its process still runs: wait until it ends "
        f"or stop it with `kill {process.pid}`, then start train again."
    )


def test_a_removed_run_whose_process_is_gone_is_to_be_started_again(
    working: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "GONE_SECONDS", 0.0)
    run = _run()
    record = run.record()
    working.send_signal(signal.SIGINT)
    working.communicate(timeout=60)
    run.write(record)  # as it was before the end
    monkeypatch.setattr(Run, "state", lambda _self, _record=None: "running")
    assert _said_when_removed(run).endswith("was removed while a command followed the run; start train again.")


def test_a_run_that_never_had_a_record_is_not_awaited(tmp_path: Path) -> None:
    with pytest.raises(NoRecord, match="does not exist; if the run was removed, start it again"):
        followed(Run(tmp_path / "train-x"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("left", ["active", "ended", "removed"])
def test_an_ended_watch_says_that_the_run_goes_on_only_if_it_does(
    working: "subprocess.Popen[str]",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    left: str,
) -> None:
    run = _run()

    def interrupted(*_: object, **__: object) -> None:
        if left == "ended":
            run.stop()
        if left == "removed":
            shutil.rmtree(run.path)
        os.kill(os.getpid(), number)
        time.sleep(5)

    monkeypatch.setattr(stages, "_show_events", interrupted)
    assert stages._follow(run, argparse.Namespace(json=False, root=None), stop_on_interrupt=False) == 0
    said = capsys.readouterr().err
    assert ("keeps running" in said) == (left == "active")
    assert ("has ended" in said) == (left == "ended")


@pytest.mark.parametrize("number", [0, errno.EROFS, errno.ENOSPC])
def test_a_run_that_could_not_write_its_end_is_told_with_what_the_disk_says(
    working: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """As when a file system turns read-only in the middle of a training."""
    run = _run()
    process = run.record().process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    working.communicate(timeout=60)

    def full(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    if number:
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(BitnetError) as caught:
        stages._follow(run, argparse.Namespace(json=False, root=None), stop_on_interrupt=True)
    told = str(caught.value)
    assert told.startswith(f"{run.id} was interrupted (its process is gone")
    assert (f"{run.path} can't be written ({os.strerror(number)}); " in told) == bool(number)
    assert ("; start it again: `bitnet --root " in told) == (not number)
