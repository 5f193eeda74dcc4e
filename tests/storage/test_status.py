"""What people are told of a copy without asking its target."""

import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core import process
from bitnet_core.settings.storage import target_mark
from bitnet_core.storage.copy import open_copy
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.layout import Stored
from bitnet_core.storage.state import FOLDER, opened
from bitnet_core.storage.status import CopyStatus, Folder, copy_status, version
from tests.storage.experiments import machine


def _stored(name: str, size: int) -> Stored:
    return Stored(name=name, size=size, sha256="0" * 64, role="other")


def test_what_is_stored_and_what_waits(tmp_path: Path) -> None:
    assert copy_status(tmp_path) == CopyStatus()
    before = version(tmp_path)
    with opened(tmp_path, "s3://bucket/demo/") as state:
        state.note_stored(7, [_stored("data/a", 5), _stored("data/b", 6), _stored("settings.env", 1)])
        state.wait([("data/c", "1"), ("data/d", "1")])
        found = copy_status(tmp_path)  # while another process has it open
    assert version(tmp_path) != before
    assert copy_status(tmp_path) == found
    assert (found.place, found.counter) == ("s3://bucket/demo/", 7)
    assert abs((found.at or 0) - time.time()) < 3600
    assert found.folders == (Folder("data", 2, 11), Folder("settings.env", 1, 1))
    assert [name for name, _ in found.waiting] == ["data/c", "data/d"]


@pytest.mark.parametrize("put", [7200.0, -7200.0])
def test_a_clock_that_was_set_makes_no_file_wait_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: float
) -> None:
    clock = {"wall": 1_000_000.0, "up": 500.0, "boot": 0.0}
    monkeypatch.setattr(time, "time", lambda: clock["wall"])
    monkeypatch.setattr(process, "uptime", lambda: clock["up"])
    monkeypatch.setattr(process, "boot_id", lambda: f"boot {clock['boot']}")

    def waits() -> list[float]:
        found = state.waiting()
        assert dict(copy_status(tmp_path).waiting) == found
        return [round(clock["wall"] - since, 3) for since in found.values()]

    with opened(tmp_path, "s3://bucket/demo/") as state:
        state.wait([("data/c", "1")])
        clock["wall"] += 60 + put
        clock["up"] += 60
        assert waits() == [60.0]
        state.wait([("data/c", "1"), ("data/d", "1")])
        clock["wall"] += 40 - put
        clock["up"] += 40
        assert waits() == [100.0, 40.0]
        clock |= {"wall": clock["wall"] + 30, "up": 10.0, "boot": 1.0}  # nothing but the wall clock knows of both
        assert waits() == [130.0 - put, 70.0 - put]
        for damaged in ("", "boot 1.0 nan", "boot 1.0 x"):
            state.remember("clock", damaged)
            assert waits() == [130.0 - put, 70.0 - put]


def test_the_target_that_was_used_last_is_told_and_a_damaged_file_harms_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, "one/") as state:
        state.note_stored(1, [])
    with opened(tmp_path, "two/") as state:
        state.note_stored(2, [])
        assert copy_status(tmp_path).place == "two/"
    (tmp_path / FOLDER / "ffff.sqlite").write_bytes(b"no database" * 1000)
    assert copy_status(tmp_path).place == "two/"


def test_a_copy_is_told_of_while_the_settings_lead_to_it(tmp_path: Path) -> None:
    """After a change of the target nothing is stored there yet, and what is at the older one does not count."""

    def told(**given: str) -> str:
        return copy_status(tmp_path / "demo", target_mark(machine(tmp_path / "demo", **given).settings, "demo")).place

    one, two = {"STORAGE_LOCAL_DIR": str(tmp_path / "one")}, {"STORAGE_LOCAL_DIR": str(tmp_path / "two")}
    for given in (one, two):
        with open_copy(machine(tmp_path / "demo", **given), Keys()) as copy:
            copy.state.note_stored(1, [])
    assert told(**one) == f"{tmp_path}/one/demo/"
    assert told(**two) == f"{tmp_path}/two/demo/"
    assert told(**two, STORAGE_SYNC="off") == f"{tmp_path}/two/demo/"
    assert told(STORAGE_LOCAL_DIR=str(tmp_path / "three")) == ""
    assert told(STORAGE_BACKEND="icloud", ICLOUD_DRIVE_DIR=str(tmp_path / "two")) == ""
    with opened(tmp_path / "demo", "noted by an earlier version/"):
        assert told(STORAGE_LOCAL_DIR=str(tmp_path / "three")) == "noted by an earlier version/"


def test_a_note_of_another_version_is_not_read(tmp_path: Path) -> None:
    with opened(tmp_path, "one/") as state:
        for note in ('{"at": "soon", "counter": [], "folders": {"data": 3}}', "[]", "[" * 10_000, '{"folders": 1}'):
            state.remember("stored", note)
            assert replace(told := copy_status(tmp_path), unreadable="") == CopyStatus()
            assert told.unreadable.endswith(".sqlite can't be read (its notes make no sense)")
    path = next((tmp_path / FOLDER).glob("*.sqlite"))
    with sqlite3.connect(path) as database:
        database.execute("drop table notes")
    assert copy_status(tmp_path) == CopyStatus(
        unreadable=f"{FOLDER}/{path.name} can't be read (no such table: notes)"
    )


def test_a_damaged_file_alone_is_told_of_and_not_taken_for_no_copy(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "ffff.sqlite").write_bytes(b"no database" * 1000)
    told = CopyStatus(unreadable=f"{FOLDER}/ffff.sqlite can't be read (file is not a database)")
    assert copy_status(tmp_path) == copy_status(tmp_path, "any target") == told
