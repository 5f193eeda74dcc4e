"""The uploader by itself: what it sends when, what it tells, and what a failing target does to it."""

import contextlib
import re
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, Stopped, UsageError
from bitnet_core.runs.context import StageContext
from bitnet_core.runs.event_files import EventWriter, read_events
from bitnet_core.runs.events import Alert, Event, Log, Upload
from bitnet_core.runs.reporter import Reporter
from bitnet_core.stages import upload
from bitnet_core.storage import sync
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.push import Push
from bitnet_core.storage.snapshot import LocalFile
from bitnet_core.storage.state import exclusive, opened
from bitnet_core.storage.sync import Pace, Uploader
from bitnet_core.storage.target import Limits, Refused, Unreachable
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.under import Under
from tests.storage.syncing import experiment_at, stored

FAST = Pace(tick=0.05, growing=0.0, share=0.0, first_retry=0.05, longest_retry=0.1, tries=3)


class Reports(Reporter):
    def __init__(self) -> None:
        self.events: list[Event] = []
        super().__init__(self.events.append)

    @property
    def alerts(self) -> list[str]:
        return [one.code for one in self.events if isinstance(one, Alert)]


class Failing:
    """A folder whose first puts fail."""

    def __init__(self, target: FolderTarget, failures: list[BitnetError]) -> None:
        self._target = target
        self._failures = failures
        self.name, self.place, self.limits = target.name, target.place, target.limits
        self.get, self.list, self.delete, self.check = target.get, target.list, target.delete, target.check

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        if self._failures:
            raise self._failures.pop(0)
        self._target.put(key, data, only_if_absent=only_if_absent)


def uploader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: list[BitnetError]
) -> tuple[Uploader, Reports]:
    """An uploader of an experiment without runs, on a folder that fails so often."""
    experiment = experiment_at(tmp_path / "exp")
    experiment.ensure()
    (experiment.reports / "one.json").write_text("{}")
    target = Failing(FolderTarget("local", tmp_path / "copy"), failures)
    monkeypatch.setattr(sync, "open_target", lambda _settings, _keys: contextlib.nullcontext(target))
    monkeypatch.setattr("bitnet_core.storage.patient._FIRST_WAIT", 0.001)
    monkeypatch.setattr("bitnet_core.storage.patient.Patient._wait", lambda *_: 0.001)
    reports = Reports()
    return Uploader(experiment, Keys(), reports, FAST), reports


def test_what_a_target_refuses_for_a_while_is_stored_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[BitnetError] = [Unreachable("It rains.") for _ in range(13)]
    one, reports = uploader(tmp_path, monkeypatch, failures)
    pushed = one.run()
    assert pushed is not None and pushed.files == 2
    assert reports.alerts == ["storage_unreachable"]  # once, though it failed twice
    told = [event.message for event in reports.events if isinstance(event, Log)]
    assert told[0].startswith("It rains. Trying again in ")
    assert set(told[1:]) == {"The copy is not up to date; next try in 0s."}
    assert stored(tmp_path)["reports/one.json"] == b"{}"


def test_a_last_push_that_never_succeeds_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = uploader(tmp_path, monkeypatch, [Unreachable("It rains.") for _ in range(1000)])
    with pytest.raises(Unreachable, match="It rains"):
        one.run()


def test_a_refused_last_push_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[BitnetError] = [Refused("No.")] * 2
    one, _ = uploader(tmp_path, monkeypatch, failures)
    with pytest.raises(Refused, match=r"No\."):
        one.run()


def test_what_waits_is_on_disk_with_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = uploader(tmp_path, monkeypatch, [Refused("No.")] * 2)
    with pytest.raises(Refused):
        one.run()
    place = Under(FolderTarget("local", tmp_path / "copy"), "exp/").place
    with opened(one.experiment.root, place) as state:
        waiting = state.waiting()
    assert set(waiting) >= {"reports/one.json"} or set(waiting) >= {"settings.env"}
    assert all(abs(since - time.time()) < 60 for since in waiting.values())


def test_a_push_by_hand_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = uploader(tmp_path, monkeypatch, [])
    result: list[object] = []
    with exclusive(one.experiment.root):
        thread = threading.Thread(target=lambda: result.append(one.run()))
        thread.start()
        time.sleep(0.3)
        assert not result
    thread.join(60)
    assert result


def test_an_upload_that_is_stopped_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, reports = uploader(tmp_path, monkeypatch, [])
    reports.request_stop()
    with pytest.raises(
        Stopped, match=re.escape(f"`bitnet --root {shlex.quote(str(tmp_path / 'exp'))} store push` continues.")
    ):
        one.run()


def test_a_rotated_token_that_cannot_be_kept_is_an_alert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BitnetError("The keyring is full.")

    monkeypatch.setattr("bitnet_core.secrets.places.KeyPlaces.keep", refuse)
    monkeypatch.setattr(Uploader, "run", lambda self: self.keys.keep("DROPBOX_REFRESH_TOKEN", "new"))
    experiment = experiment_at(tmp_path / "exp")
    experiment.ensure()
    context = StageContext("upload", tmp_path, experiment, EventWriter(tmp_path / "events.jsonl"))
    upload.run(context)
    [alert] = read_events(tmp_path / "events.jsonl")
    assert isinstance(alert, Alert) and alert.code == "key_not_kept"
    assert alert.message.startswith("The new DROPBOX_REFRESH_TOKEN could not be kept") and "full" in alert.message


def test_a_copy_that_is_behind_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, reports = uploader(tmp_path, monkeypatch, [])
    one.pace = Pace(tick=0.05, behind=-1.0)
    one.run()
    assert reports.alerts == ["storage_behind"]


def test_a_copy_is_behind_also_while_a_target_takes_nothing_and_refuses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, reports = uploader(tmp_path, monkeypatch, [])
    one.pace = Pace(tick=0.05, behind=0.1)
    put, deadline = Failing.put, time.monotonic() + 60

    def slow(target: Failing, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        while "storage_behind" not in reports.alerts and time.monotonic() < deadline:
            time.sleep(0.02)
        put(target, key, data, only_if_absent=only_if_absent)

    monkeypatch.setattr(Failing, "put", slow)
    monkeypatch.setattr(Uploader, "_on_bytes", lambda *_: None)
    assert one.run() is not None
    assert reports.alerts == ["storage_behind"]


def test_checkpoints_that_never_arrive_are_behind_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is replaced before it has arrived: the copy is behind since the first of them."""
    now = [1000.0]
    monkeypatch.setattr("bitnet_core.storage.state.time.time", lambda: now[0])
    monkeypatch.setattr("bitnet_core.process.uptime", lambda: now[0])
    with opened(tmp_path, "memory") as state:
        for step in (10, 20, 30):
            now[0] += 100
            state.wait([(f"checkpoints/mini_bitnet_step_{step:08d}.pt", "v"), (f"reports/{step}", "v")])
        assert state.waiting() == {"checkpoints/mini_bitnet_step_00000030.pt": 1100.0, "reports/30": 1300.0}
        state.stop_waiting("checkpoints/mini_bitnet_step_00000030.pt")
        now[0] += 100
        state.wait([("checkpoints/mini_bitnet_step_00000040.pt", "v")])
        assert state.waiting() == {"checkpoints/mini_bitnet_step_00000040.pt": 1400.0}


def test_a_checkpoint_that_is_always_gone_before_it_is_sent_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, reports = uploader(tmp_path, monkeypatch, [])
    one.pace = Pace(tick=0.3, behind=0.5)
    steps = iter(range(10, 1000, 10))

    def still_running(_: Uploader) -> bool:
        for path in one.experiment.checkpoints.glob("*"):
            path.unlink()
        step = next(steps)
        for ending in (".pt", "_health.json"):
            (one.experiment.checkpoints / f"mini_bitnet_step_{step:08d}{ending}").write_bytes(b"x")
        (one.experiment.reports / "r.json").write_text(str(step))
        return step < 200

    real = sync._chosen

    def gone(files: list[LocalFile], *, with_growing: bool) -> list[LocalFile]:
        found = real(files, with_growing=with_growing)
        for path in one.experiment.checkpoints.glob("*"):
            path.unlink()
        return found

    monkeypatch.setattr(sync, "_chosen", gone)
    monkeypatch.setattr(Uploader, "_others_active", still_running)
    one.run()
    assert "storage_behind" in reports.alerts


def test_while_stages_run_only_the_newest_complete_checkpoint_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = uploader(tmp_path, monkeypatch, [])
    for step in (10, 20, 30):
        (one.experiment.checkpoints / f"mini_bitnet_step_{step:08d}.pt").write_bytes(b"x")
        if step != 30:  # it is not complete yet
            (one.experiment.checkpoints / f"mini_bitnet_step_{step:08d}_health.json").write_bytes(b"{}")
    monkeypatch.setattr(Uploader, "_others_active", _true_twice())
    one.run()
    first = tmp_path / "copy" / "exp" / "manifests"
    assert first.is_dir()
    uploads = [e.path for e in _.events if isinstance(e, Upload) and e.path.startswith("checkpoints/")]
    assert {Path(path).name for path in uploads[:2]} == {
        "mini_bitnet_step_00000020.pt",
        "mini_bitnet_step_00000020_health.json",
    }
    assert len(uploads) == 3  # the older one is not needed


def test_while_stages_run_what_was_set_aside_is_sent_with_the_state_that_it_leaves(tmp_path: Path) -> None:
    aside, old, new = (
        LocalFile(f"checkpoints/{name}", "checkpoint", tmp_path, 1, "")
        for step, folder in ((28, "superseded/2026/"), (7, ""), (14, ""))
        for name in [f"{folder}mini_bitnet_step_{step:08d}.pt"]
    )
    health = LocalFile(new.name.replace(".pt", "_health.json"), "checkpoint", tmp_path, 1, "")
    assert sync._chosen([health, new, old, aside], with_growing=False) == [health, new, aside]


def test_a_journal_that_changes_too_fast_holds_nothing_else_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, reports = uploader(tmp_path, monkeypatch, [])
    (one.experiment.reports / "two.json").write_text("[]")
    journal = one.experiment.data.with_name("data.journal") / "journal.sqlite"
    journal.parent.mkdir()
    journal.write_bytes(b"x")
    monkeypatch.setattr("bitnet_core.storage.database._copy_pair", lambda *_: False)
    monkeypatch.setattr("bitnet_core.storage.database._WAIT_SECONDS", 0.001)
    one.pace = Pace(tick=0.05)
    monkeypatch.setattr(Uploader, "_others_active", _true_twice())
    pushed = one.run()
    assert pushed is not None
    assert "changes faster than it can be copied" in "".join(pushed.left)
    assert set(stored(tmp_path)) >= {"reports/one.json", "reports/two.json", "settings.env"}
    assert reports.alerts == ["not_stored"]
    assert one._growing_due > time.monotonic() + 200  # it is not tried with each push


def test_a_name_that_the_target_refuses_holds_nothing_else_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FolderTarget, "limits", Limits(segment_bytes=100, case_sensitive=False))
    one, reports = uploader(tmp_path, monkeypatch, [])
    for name in ("n" * 101, "twin", "Twin"):
        (one.experiment.reports / name).write_text(name)
    pushed = one.run()
    assert pushed is not None and len(pushed.left) == 2
    assert set(stored(tmp_path)) == {"reports/one.json", "reports/Twin", "settings.env"}
    told = [event.message for event in reports.events if isinstance(event, Alert)]
    assert [message.split()[0] for message in told] == ["reports/" + "n" * 101, "reports/twin"]
    with pytest.raises(UsageError, match=r"longer than \d+ bytes"), opened(tmp_path / "other", "place") as state:
        Push(one.experiment, FolderTarget("local", tmp_path / "third"), state).plan()  # by hand they are refused


def _true_twice() -> Callable[[Uploader], bool]:
    answers = [True, False]
    return lambda _self: answers.pop(0) if answers else False
