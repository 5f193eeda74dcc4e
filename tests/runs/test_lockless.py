"""Runs on a file system without locks: said once, one run of a stage at a time, and free again after a kill."""

import fcntl
import time
from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.runs.launch import launch
from bitnet_core.runs.record import Run
from bitnet_core.settings.resolve import from_values
from tests.builders import events_of
from tests.lockless import refusing

HERE = Path(__file__).parent
_PATCHED = """
import sys
sys.path.insert(0, {root!r})
from tests import lockless
lockless.install()
exec(open({fakes!r}).read())
"""


def test_a_stage_holds_a_file_as_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = str(HERE / "fake_stages" / "sitecustomize.py")
    (tmp_path / "sitecustomize.py").write_text(_PATCHED.format(root=str(HERE.parents[1]), fakes=fakes))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAKE_STAGES", "1")
    monkeypatch.setattr(fcntl, "flock", refusing())

    def start(what: str) -> Run:
        monkeypatch.setenv("FAKE_TRAIN", what)
        return launch(from_values({"DRIVE_ROOT": str(tmp_path / "exp")}), "train")

    lock = tmp_path / "exp" / "logs" / ".train.lock.owner"
    first = start("wait")
    with pytest.raises(UsageError, match=f"train is already running in .*bitnet --root .* stop {first.id}"):
        start("done")
    deadline = time.monotonic() + 60
    while not (logged := events_of(first.events_path, "log")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [event["message"] for event in logged] == [
        f"The file system of {lock.parent} has no locks; .train.lock.owner is used instead."
    ]
    assert lock.exists()
    first.kill()
    second = start("done")
    while second.is_active() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert second.state() == "succeeded"
    assert not lock.exists()
