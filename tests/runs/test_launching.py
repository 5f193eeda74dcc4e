"""Launches at the same moment, processes of other users, and names that name nothing."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Workspace
from bitnet_core.runs.record import ACTIVE, Run
from tests.runs.test_runs import Starter, _history, _wait, start

__all__ = ["start"]


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
    _wait(run, "running")
    for refusal in found:
        if isinstance(refusal, str):
            assert f"train is already running in {run.path.parents[1]}" in refusal
            assert f"`bitnet stop {run.id}`" in refusal
    assert [entry.state for entry in _history(run).entries if entry.record.stage == "train"] == ["running"]
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
    _wait(run, "succeeded")
    with pytest.raises(UsageError, match="name of the run is empty"):
        _history(run).find("")
    assert _history(run).newest() == run


def test_a_demo_that_may_not_be_entered_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(BitnetError, match=r"demo.* can't be read \(Permission denied\); correct its permissions"):
        Workspace(tmp_path).demo()
    with pytest.raises(BitnetError, match="can't be created"):
        Workspace(tmp_path).create("new")
