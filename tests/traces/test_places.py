"""Where a trace set's journal, old sets, projections and tokenizer are."""

import os
from pathlib import Path

import pytest

from bitnet_core.traces import places


@pytest.mark.parametrize("what", ["journal", "superseded", "projected"])
def test_they_are_beside_the_data_and_no_two_sets_share_one(tmp_path: Path, what: str) -> None:
    for name in ("data", "other", "data.old", "mine/data"):
        (tmp_path / name).mkdir(parents=True)
        assert places.beside(tmp_path / name, what) == tmp_path / f"{name}.{what}"


def test_a_link_leads_to_the_same_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk" / "traces").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "traces")
    monkeypatch.chdir(tmp_path)
    for way in (tmp_path / "data", Path("data"), Path("disk/traces/../traces")):
        assert places.journal(way) == tmp_path / "disk" / "traces.journal" / "journal.sqlite"


def test_a_mounted_volume_keeps_it_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == tmp_path)
    assert places.journal(tmp_path) == tmp_path / ".journal" / "journal.sqlite"
    assert places.journal(tmp_path / "x") == tmp_path / "x.journal" / "journal.sqlite"
    assert places.beside(Path("/"), "journal") == Path("/.journal")


def test_a_parent_that_cannot_be_written_keeps_it_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != tmp_path)
    data = tmp_path / "data"
    assert places.journal(data) == data / ".journal" / "journal.sqlite"
    (tmp_path / "data.journal").mkdir()  # one that is there is used
    assert places.journal(data) == tmp_path / "data.journal" / "journal.sqlite"


def test_what_is_there_is_found_in_each_place(tmp_path: Path) -> None:
    (tmp_path / "disk" / "traces").mkdir(parents=True)
    data = tmp_path / "data"
    data.symlink_to("disk/traces")
    outside, beside_link, inside = (
        tmp_path / "disk" / "traces.projected",
        tmp_path / "data.projected",
        tmp_path / "disk" / "traces" / ".projected",
    )
    assert places.all_beside(data, "projected") == [outside, beside_link, inside]
    for folder in (outside, beside_link, inside):
        (folder / "0123").mkdir(parents=True)
        assert places.projection(data, "0123") == folder / "0123"
        (folder / "0123").rmdir()
    assert places.projection(data, "0123") == outside / "0123"


def test_a_name_that_leads_up_is_no_link_of_another_set(tmp_path: Path) -> None:
    (tmp_path / "disk" / "traces").mkdir(parents=True)
    (tmp_path / "data").symlink_to("disk/traces")
    assert places.all_beside(tmp_path / "data" / "..", "journal") == [
        tmp_path / "disk.journal",
        tmp_path / "disk" / ".journal",
    ]


def test_old_places_are_found(tmp_path: Path) -> None:
    assert places.tokenizer(tmp_path) == tmp_path / "_tokenizer"
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "projected" / "0123").mkdir(parents=True)
    assert places.tokenizer(tmp_path) == tmp_path / "tokenizer"
    assert places.projection(tmp_path, "0123") == tmp_path / "projected" / "0123"
    assert places.projection(tmp_path, "4567").parent.name == f"{tmp_path.name}.projected"
    (tmp_path / "_tokenizer").mkdir()
    assert places.tokenizer(tmp_path) == tmp_path / "_tokenizer"
