"""Launches at the same moment, processes of other users, and names that name nothing."""

import errno
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Experiment, Workspace
from bitnet_core.runs.history import History
from bitnet_core.runs.record import ACTIVE, Run
from tests.runs.real import Starter, history_of, wait


def test_of_several_launches_at_once_one_starts_and_the_others_name_it(start: Starter) -> None:
    start("dryrun", what="done")  # so that the folders are there

    def launched(_: int) -> Run | str:
        try:
            return start(what="wait")
        except UsageError as error:
            return str(error)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(launched, range(4)))
    (run,) = [one for one in found if isinstance(one, Run)]
    wait(run, "running")
    for refusal in found:
        if isinstance(refusal, str):
            assert f"train is already running in {run.path.parents[1]}" in refusal
            assert f"`bitnet --root {shlex.quote(str(run.path.parents[1]))} stop {run.id}`" in refusal
    assert [entry.state for entry in history_of(run).entries if entry.record.stage == "train"] == ["running"]
    assert run.stop() == "cancelled"


def test_a_process_of_another_user_is_named_with_its_user(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start(what="wait")

    def forbidden(pid: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", forbidden)
        patch.setattr(os, "killpg", forbidden)
        for act in (run.request_stop, run.kill, run.stop):
            with pytest.raises(UsageError, match=rf"{run.id} runs as \S+ \(process {run.record().pid}\); stop it as"):
                act()
    assert run.state() in ACTIVE
    assert run.stop() == "cancelled"


def test_an_empty_name_names_no_run(start: Starter) -> None:
    run = start(what="done")
    wait(run, "succeeded")
    with pytest.raises(UsageError, match="name of the run is empty"):
        history_of(run).find("")
    assert history_of(run).newest() == run


def test_a_demo_that_may_not_be_entered_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path, **_: object) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", forbidden)
    monkeypatch.setattr(Path, "mkdir", forbidden)
    with pytest.raises(BitnetError, match=r"demo.* can't be read \(Permission denied\); correct its permissions"):
        Workspace(tmp_path).demo()
    with pytest.raises(BitnetError, match="can't be created"):
        Workspace(tmp_path).create("new")


def test_a_launch_on_a_full_disk_leaves_no_folder(start: Starter, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start("dryrun", what="done")
    wait(run, "succeeded")

    def full(self: Run, _: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self.record_path))

    with monkeypatch.context() as patch, pytest.raises(BitnetError, match="free space there"):
        patch.setattr(Run, "write", full)
        start(what="done")
    assert [path.name for path in run.path.parent.iterdir() if path.is_dir()] == [run.id]


def test_what_a_launch_can_not_read_is_not_said_to_be_unwritable(start: Starter, tmp_path: Path) -> None:
    def unreadable(_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(tmp_path))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(BitnetError) as error:
        patch.setattr(History, "read", unreadable)
        start(what="done")
    assert str(error.value).endswith(f"can't start: {tmp_path} can't be used (Input/output error); check the disk.")


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo])
def test_runs_in_something_that_is_no_folder_are_not_none(tmp_path: Path, make: Callable[[Path], object]) -> None:
    experiment = Experiment.open(tmp_path / "exp")
    experiment.root.mkdir()
    make(experiment.logs)
    with pytest.raises(BitnetError, match="logs is not a folder, so no run can be read; move it away"):
        History.read(experiment)


def test_a_folder_named_like_the_settings_is_no_experiment(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.env is the name of a settings file; give --root .*exp\.$"):
        Experiment.open(tmp_path / "exp" / ".env").ensure()
    assert not (tmp_path / "exp").exists()


def test_a_stage_that_goes_on_is_no_complaint_of_python_at_the_end() -> None:
    code = (
        "import subprocess; from bitnet_core.runs import launch\n"
        "launch._children.append(subprocess.Popen(['sleep', '9'])); print(launch._children[0].pid)"
    )
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    os.kill(int(ended.stdout), signal.SIGKILL)
    assert ended.stderr == ""
