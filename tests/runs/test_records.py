"""`run.json`, whatever it holds or is: read by type, or refused with the reason. Its neighbours are read as ever."""

import dataclasses
import errno
import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from bitnet_core import process
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs import record as records
from bitnet_core.runs.event_files import each_event
from bitnet_core.runs.experiment import Experiment
from bitnet_core.runs.history import History
from bitnet_core.runs.record import RECORD_BYTES, Run, RunRecord, end
from bitnet_core.settings.resolve import from_values
from bitnet_core.text import duration
from tests.builders import history_of
from tests.fuzzing import fuzz
from tests.nobody import as_nobody, close, everybodys_folder
from tests.runs.hostile import objects_like

GOOD: dict[str, Any] = {
    "id": "train-1", "stage": "train", "state": "succeeded", "settings": {}, "origins": {}, "argv": ["x"],
    "created": 1.0, "host": "h", "boot_id": "b", "fingerprint": "f",
}  # fmt: skip
FULL = GOOD | {
    "number": 3, "created_uptime": 5.0, "pid": 12, "process_start": 5.0, "started": 2.0, "started_uptime": 6.0,
    "oom_kills": 3, "folder": "x",
    "ended": 3.0, "ended_uptime": 7.0, "exit_code": 0, "error": None, "summary": {"qei": 1.5},
}  # fmt: skip


def add(root: Path, name: str, content: bytes | None = None, **fields: Any) -> Run:
    run = Run(root / "logs" / name)
    run.path.mkdir(parents=True, exist_ok=True)
    run.record_path.write_bytes(json.dumps(GOOD | {"id": name} | fields).encode() if content is None else content)
    return run


def check(data: bytes, folder: Path) -> None:
    """A record is read as what its types say, or refused in one sentence; either way the neighbour is read."""
    run = add(folder, "odd", data)
    add(folder, "eval-2", stage="eval")
    history = history_of(folder)
    assert {entry.run.id for entry in history.entries} | {one.run.id for one in history.unreadable} == {
        "odd",
        "eval-2",
    }
    found = next((entry for entry in history.entries if entry.run == run), None)
    if found is None:
        with pytest.raises(BitnetError, match=r"^[^\n]*; (move|correct) .*\.$"):
            run.record()
        assert history.find("eval").id == "eval-2"
        return
    assert isinstance(found.state, str)
    assert 0 <= (found.record.seconds() or 0) <= 1e11
    assert duration(found.record.seconds())
    assert found.record.pid is None or found.record.pid > 0
    assert found.record.exit_code is None or abs(found.record.exit_code) < 256
    assert history.next_number > 0
    run.write(found.record)
    assert run.record() == found.record


RECORDS = objects_like([GOOD, FULL, FULL | {"state": "running", "ended": None}])


@fuzz(200)
@given(RECORDS)
def test_any_bytes_are_a_record_or_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    check(data, tmp_path_factory.mktemp("e"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\xff\xfe{\x00}\x00", "it is not JSON: invalid character"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `id`"),
        (json.dumps(GOOD | {"created": "yesterday"}).encode(), "Expected `float`, got `str` - at `$.created`"),
        (json.dumps(GOOD | {"created": -5}).encode(), "`$.created`"),
        (json.dumps(GOOD | {"created": 1e300}).encode(), "`$.created`"),
        (json.dumps(GOOD | {"created": float("nan")}).encode(), "it is not JSON"),
        (json.dumps(GOOD | {"stage": 7}).encode(), "`$.stage`"),
        (json.dumps(GOOD | {"settings": []}).encode(), "`$.settings`"),
        (json.dumps(GOOD | {"argv": "bitnet"}).encode(), "`$.argv`"),
        (json.dumps(GOOD | {"origins": {"A": 1}}).encode(), "`$.origins"),
        (json.dumps(GOOD)[:-1].encode(), "it is cut off"),
        (json.dumps(GOOD | {"id": "x"}).encode().replace(b"x", b"\xe9"), "it is not UTF-8 text"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (json.dumps(GOOD)[:-1].encode() + b',"summary":' + b'{"a":' * 60 + b"1" + b"}" * 61, "nested too deeply"),
        (json.dumps(GOOD)[:-1].encode() + b',"host":"other"}', '"host" stands in one object 2 times'),
        (json.dumps(GOOD)[:-1].encode() + b',"settings":{}}', '"settings" stands in one object 2 times'),
        (json.dumps(GOOD)[:-1].encode() + b',"summary":{"a":[{"b":1,"\\u0062":2}]}}', '"b" stands in one'),
        (b" " * (RECORD_BYTES + 1), "longer than 4 MiB"),
    ],
)  # fmt: skip
def test_a_record_that_is_none_is_told_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    run = add(tmp_path, "train-1", content)
    add(tmp_path, "eval-2", stage="eval")
    (unread,) = history_of(tmp_path).unreadable
    assert unread.run == run
    assert re.search(re.escape(reason), unread.problem, re.IGNORECASE)
    assert history_of(tmp_path).find("eval").id == "eval-2"
    with pytest.raises(BitnetError, match=re.escape(reason).replace("utf", "(?i:utf)")):
        history_of(tmp_path).find("train")


def _folder(path: Path) -> None:
    path.mkdir()


def _endless(path: Path) -> None:
    with path.open("wb") as sink:
        sink.truncate(1 << 34)


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_folder, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("/dev/tty"), "can't be read"),
        (_endless, "longer than 4 MiB"),
        (_loop, "can't be read"),
    ],
)
def test_what_is_no_file_is_neither_waited_for_nor_read_to_its_end(
    tmp_path: Path, make: Callable[[Path], None], reason: str
) -> None:
    run = add(tmp_path, "train-1")
    add(tmp_path, "eval-2", stage="eval")
    run.record_path.unlink()
    make(run.record_path)
    history = history_of(tmp_path)
    assert [entry.run.id for entry in history.entries] == ["eval-2"]
    assert [reason in one.problem for one in history.unreadable] == [True]


def test_a_folder_is_a_run_only_if_it_has_a_record_or_events(tmp_path: Path) -> None:
    add(tmp_path, "eval-2", stage="eval")
    for name in ("just-made", "lost"):
        (tmp_path / "logs" / name).mkdir()
    (tmp_path / "logs" / "notes.txt").write_text("")
    (tmp_path / "logs" / "lost" / "events.jsonl").write_text("")
    (unread,) = history_of(tmp_path).unreadable
    assert (unread.run.id, "run.json is missing" in unread.problem) == ("lost", True)


def test_an_unreadable_run_is_found_by_its_name_and_hides_no_other(tmp_path: Path) -> None:
    add(tmp_path, "train-1", b"{}")
    with pytest.raises(BitnetError, match=r"train-1/run\.json is not a run's record"):
        history_of(tmp_path).newest()
    add(tmp_path, "train-2", created=5.0)
    assert history_of(tmp_path).find("train").id == "train-2"
    with pytest.raises(BitnetError, match=r"train-1/run\.json is not a run's record"):
        history_of(tmp_path).find("train-1")
    with pytest.raises(UsageError, match="has no run 'eval'"):
        history_of(tmp_path).find("eval")


def test_a_run_that_was_copied_by_hand_is_told_and_counts_once(tmp_path: Path) -> None:
    """Also where its number and name would make it the newest, and where only copies are left."""
    logs = tmp_path / "logs"
    first = add(tmp_path, "train-1")
    shutil.copytree(first.path, logs / "train-1 (copy)")
    shutil.copytree(first.path, logs / "a-train")
    add(tmp_path, "eval-1", stage="eval").path.rename(logs / "eval-renamed")
    shutil.copytree(logs / "eval-renamed", logs / "eval-renamed (1)")
    history = history_of(tmp_path)
    assert {entry.run.id for entry in history.entries} == {"train-1", "eval-renamed"}
    assert [one.problem for one in history.unreadable] == [
        f"{logs / 'a-train'} is a copy of train-1; move it out of {logs}.",
        f"{logs / 'eval-renamed (1)'} is a copy of eval-renamed; move it out of {logs}.",
        f"{logs / 'train-1 (copy)'} is a copy of train-1; move it out of {logs}.",
    ]


def test_only_the_first_unreadable_runs_are_told_at_length(tmp_path: Path) -> None:
    for number in range(5):
        add(tmp_path, f"train-{number}", b"[]")
    lines = history_of(tmp_path).problem.split("\n")
    assert len(lines) == 3
    assert lines[-1] == "3 more runs can't be read; `bitnet runs` lists them."


def test_what_the_user_may_not_read_is_told() -> None:
    def told() -> list[list[str]]:
        history = history_of(place)
        return [[entry.run.id for entry in history.entries], [one.problem for one in history.unreadable]]

    with everybodys_folder() as place:
        closed, file = add(place, "train-1"), add(place, "train-2")
        add(place, "eval-2", stage="eval")
        told()  # what it imports is imported while it may be read
        close(closed.path)
        close(file.record_path)
        readable, problems = as_nobody(told)
    assert readable == ["eval-2"]
    assert [("run.json can't be read (Permission denied)" in problem) for problem in problems] == [True, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pid", -1), ("pid", 0), ("pid", 2**40), ("pid", True), ("exit_code", 10**6), ("number", 0),
        ("number", 10**12), ("started", -1.0), ("ended", 1e300), ("started_uptime", "5"),
        ("error", 5), ("summary", "good"),
    ],
)  # fmt: skip
def test_an_odd_optional_field_counts_as_absent(tmp_path: Path, name: str, value: Any) -> None:
    """A pid of -1 or 0 would be every process, or our own group."""
    record = add(tmp_path, "train-1", **{name: value}).record()
    assert getattr(record, name) == ({} if name == "summary" else None)


def test_a_record_that_did_not_change_is_not_parsed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitnet_core.runs.history import RecordCache

    run, bad = add(tmp_path, "train-1"), add(tmp_path, "train-2", b"[")
    cache, parsed = RecordCache(), []
    whole = Run.record
    monkeypatch.setattr(Run, "record", lambda self: parsed.append(self.id) or whole(self))
    experiment = Experiment.from_settings(from_values({"DRIVE_ROOT": str(tmp_path)}))
    for _ in range(3):
        history = History.read(experiment, cache)
        assert (len(history.entries), len(history.unreadable)) == (1, 1)
    assert sorted(parsed) == [run.id, bad.id]


def test_what_is_too_long_to_be_read_is_not_written(tmp_path: Path) -> None:
    run = add(tmp_path, "train-1", state="running")
    with pytest.raises(BitnetError, match="longer than 4 MiB"):
        run.write(dataclasses.replace(run.record(), settings={"KD_SYSTEM_PROMPT": "x" * RECORD_BYTES}))
    end(run, "failed", 1, "é" * (RECORD_BYTES // 2), {"text": "x" * RECORD_BYTES})
    record = run.record()
    assert (record.state, record.exit_code, record.summary) == ("failed", 1, {})
    assert record.error is not None
    assert record.error.endswith("… [cut; 2097152 characters]")


def test_an_end_is_recorded_even_if_it_cannot_be_announced(tmp_path: Path) -> None:
    run = add(tmp_path, "train-1", state="running")
    run.events_path.mkdir()
    end(run, "cancelled", 130, None)
    assert run.record().state == "cancelled"


@pytest.mark.parametrize("failures", [1, 2, 3])
def test_an_end_is_recorded_even_if_the_disk_fails_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Its events have told that it succeeded; a record without an end would be shown as interrupted."""
    run = add(tmp_path, "train-1", state="running")
    fsync, left = os.fsync, [OSError(errno.EIO, os.strerror(errno.EIO))] * failures

    def failing(fd: int) -> None:
        if left:
            raise left.pop()
        fsync(fd)

    monkeypatch.setattr(os, "fsync", failing)
    if failures == 3:
        with pytest.raises(OSError, match="Input/output error"):
            end(run, "succeeded", 0, None)
    else:
        end(run, "succeeded", 0, None)
        assert run.record().state == "succeeded"


@pytest.mark.parametrize("name", ["../../other/logs/train-1", "/", "..", "", "a\x00b", "train-9", "odd", "x" * 300])
def test_a_pipelines_events_name_no_run_outside_its_experiment(tmp_path: Path, name: str) -> None:
    """It would be killed with the pipeline."""
    alive = {"state": "running", "pid": os.getpid(), "boot_id": process.boot_id()}
    alive["process_start"] = process.current().start
    outside = add(tmp_path / "other", "train-1", **alive)
    assert outside.is_active()
    root = tmp_path / "one"
    pipeline = add(root, "pipeline-1", stage="pipeline")
    add(root, "odd", b"[")
    child = add(root, "train-1", **alive)
    events = [{"kind": "progress", "done": 1, "run": one} for one in (name, "train-1")]
    pipeline.events_path.write_text("".join(json.dumps(one) + "\n" for one in events))
    assert pipeline.active_children() == [child]


@pytest.mark.parametrize("garbage", [b"\n" * 99_999, b"x\n" * 9_999, b"y" * 99_999 + b"\n", b"z" * 3_000_000 + b"\n"])
def test_a_run_is_followed_past_what_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, garbage: bytes
) -> None:
    """Even if there is more of it than is read at once."""
    monkeypatch.setattr("bitnet_core.runs.event_files._MOST_CHUNKS", 1)
    run = add(tmp_path, "train-1")
    run.events_path.write_bytes(garbage * 3 + b'{"kind":"run_finished","state":"succeeded"}\n')
    assert [event.kind for event in run.follow(poll_seconds=0)][-1] == "run_finished"
    assert [event.kind for event in each_event(run.events_path)] == ["run_finished"]


def test_every_field_of_a_record_is_written_and_read(tmp_path: Path) -> None:
    run = add(tmp_path, "train-1")
    run.write(RunRecord(**FULL))
    assert run.record() == RunRecord(**FULL)
    assert set(json.loads(run.record_path.read_text())) == set(FULL)


def test_a_process_that_is_gone_is_told_with_what_the_machine_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = tmp_path / "vmstat"
    monkeypatch.setattr(process, "_VM_COUNTERS", counters)
    here = {**FULL, "host": socket.gethostname(), "boot_id": process.boot_id(), "oom_kills": 3}
    assert RunRecord(**here).gone == "its process is gone"
    counters.write_text("oom_kill 3\n")
    assert RunRecord(**here).gone == "its process is gone"
    counters.write_text("oom_kill 4\n")
    assert RunRecord(**here).gone.endswith("the system has killed processes because memory ran out")
    assert RunRecord(**{**here, "oom_kills": None}).gone == "its process is gone"
    assert RunRecord(**{**here, "boot_id": "another"}).gone == "its process is gone, as this machine was restarted"
    assert RunRecord(**{**here, "boot_id": "another", "host": "another"}).gone == "its process is gone"
    counters.unlink()
    run = Run(tmp_path / FULL["id"])
    run.write(RunRecord(**here))
    assert run.gone() == "its process is gone"
    monkeypatch.setattr(records, "is_read_only", lambda path: path == run.path)
    assert run.gone() == "its process is gone, and its disk is read-only now"
