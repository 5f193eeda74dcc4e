"""What people are told of a copy without asking its target."""

import sqlite3
import time
from pathlib import Path

from bitnet_core.storage.layout import Stored
from bitnet_core.storage.state import FOLDER, opened
from bitnet_core.storage.status import CopyStatus, Folder, copy_status, version


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


def test_the_target_that_was_used_last_is_told_and_a_damaged_file_harms_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, "one/") as state:
        state.note_stored(1, [])
    with opened(tmp_path, "two/") as state:
        state.note_stored(2, [])
        assert copy_status(tmp_path).place == "two/"
    (tmp_path / FOLDER / "ffff.sqlite").write_bytes(b"no database" * 1000)
    assert copy_status(tmp_path).place == "two/"


def test_a_note_of_another_version_is_not_read(tmp_path: Path) -> None:
    with opened(tmp_path, "one/") as state:
        state.remember("stored", '{"at": "soon", "counter": [], "folders": {"data": 3}}')
    assert copy_status(tmp_path) == CopyStatus()
    path = next((tmp_path / FOLDER).glob("*.sqlite"))
    with sqlite3.connect(path) as database:
        database.execute("drop table notes")
    assert copy_status(tmp_path) == CopyStatus()
