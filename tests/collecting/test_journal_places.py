"""The journal of a trace set is found wherever an earlier run put it; links lead to it; several become one."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.collecting import journal_file
from bitnet_core.collecting.journal import Charge, Journal, StoredAnswer
from bitnet_core.errors import BitnetError
from bitnet_core.runs.presence import Gone, GoneWithCopy

OK = StoredAnswer("ok", b"answer")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "experiment" / "data"
    folder.mkdir(parents=True)
    return folder


def fill(journal: Journal, *keys: str) -> None:
    for key in keys:
        journal.put(key, OK, journal.record_sent(key, Charge(1, 1)), Charge(1, 1))


def write(path: Path, *keys: str) -> Path:
    with Journal(path) as journal:
        fill(journal, *keys)
    return path


def found(data: Path, *keys: str) -> Path:
    """Twice, the journal has just these answers, each charged once; returns where it is."""
    for _ in range(2):
        with Journal.of(data) as journal:
            assert [journal.get(key) for key in keys] == [OK] * len(keys)
            assert journal.spent().requests == len(keys)
    return journal.path


def mounted(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == data)


def in_a_parent_that_cannot_be_written(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != data.parent)


STATES = {"mounted": mounted, "in a parent that can't be written": in_a_parent_that_cannot_be_written}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_the_state_of_the_folder_does_not_change_which_journal_is_used(
    data: Path, monkeypatch: pytest.MonkeyPatch, state: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    with monkeypatch.context() as patch:
        state(data, patch)
        with Journal.of(data) as journal:
            fill(journal, "a", "b")
        assert journal.path == data / ".journal" / "journal.sqlite"
    assert found(data, "a", "b") == journal.path
    state(data, monkeypatch)
    (data.parent / "data.journal").mkdir()  # an empty one says nothing
    assert found(data, "a", "b") == journal.path


def test_data_moved_behind_a_link_keeps_its_journal(data: Path, tmp_path: Path) -> None:
    with Journal.of(data) as journal:
        fill(journal, "a")
    data.rename(tmp_path / "traces")
    data.symlink_to(tmp_path / "traces")
    assert found(data, "a") == journal.path
    assert not (tmp_path / "traces.journal").exists()


def test_journals_in_several_places_become_one(data: Path, tmp_path: Path) -> None:
    data.rename(tmp_path / "traces")
    data.symlink_to(tmp_path / "traces")
    for number, folder in enumerate(("experiment/data.journal", "traces.journal", "traces/.journal", "traces")):
        write(tmp_path / folder / "journal.sqlite", f"key{number}")
    assert found(data, "key0", "key1", "key2", "key3") == tmp_path / "traces.journal" / "journal.sqlite"
    assert len(list(tmp_path.rglob("*.sqlite*"))) == 1


def test_the_same_journal_in_two_places_is_charged_once(data: Path) -> None:
    path = write(data.with_name("data.journal") / "journal.sqlite", "a", "b")
    shutil.copytree(path.parent, data / ".journal")
    assert found(data, "a", "b") == path


def test_a_copy_in_another_place_is_taken_in(data: Path) -> None:
    write(journal_file.new_copy(data / ".journal"), "a")
    write(data.with_name("data.journal") / "journal.sqlite", "b")
    found(data, "a", "b")


# -- links -----------------------------------------------------------------------------------------------


def link_file(path: Path, target: Path) -> None:
    path.parent.mkdir()
    path.symlink_to(os.path.relpath(write(target / "its.sqlite", "a"), path.parent))


def link_folder(path: Path, target: Path) -> None:
    write(target / "journal.sqlite", "a")
    path.parent.symlink_to(target)


@pytest.mark.parametrize("link", [link_file, link_folder])
@pytest.mark.parametrize("where", ["data.journal", "data/.journal"])
def test_a_link_is_used_as_what_it_leads_to(
    data: Path, tmp_path: Path, where: str, link: Callable[[Path, Path], None]
) -> None:
    path = data.parent / where / "journal.sqlite"
    link(path, tmp_path / "disk")
    assert found(data, "a") == path
    with pytest.raises(GoneWithCopy, match="all its answers are in"), Journal.of(data) as journal:
        fill(journal, "b")
        path.resolve().unlink()
        fill(journal, "c")  # not sent any more
    if path.is_symlink():  # to nothing by now
        with pytest.raises(BitnetError, match="is a link to"):
            Journal.of(data)
        path.unlink()
    found(data, "a", "b")


def test_two_names_of_one_journal_are_one(data: Path) -> None:
    path = write(data / ".journal" / "journal.sqlite", "a")
    write(journal_file.new_copy(path.parent), "b")
    data.with_name("data.journal").symlink_to("data/.journal")
    found(data, "a", "b")
    assert path.is_file()


@pytest.mark.parametrize("relative", [True, False])
def test_an_old_journal_that_is_a_link_is_used_where_it_is(data: Path, tmp_path: Path, relative: bool) -> None:
    target = write(tmp_path / "disk" / "j.sqlite", "a")
    old = data / "journal.sqlite"
    old.symlink_to(os.path.relpath(target, data) if relative else target)
    assert found(data, "a") == old
    assert old.resolve() == target


@pytest.mark.parametrize(
    "where", ["data.journal", "data/.journal", "data.journal/journal.sqlite", "data/journal.sqlite"]
)
def test_a_link_to_nothing_is_named_and_no_new_journal_is_begun(data: Path, where: str) -> None:
    link = data.parent / where
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("../unmounted/x")
    with pytest.raises(BitnetError, match=f"{link} is a link to ../unmounted/x, which is not there; mount"):
        Journal.of(data)


# -- the end of a run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Gone("data was removed"), BitnetError("a"), FileNotFoundError("data/x")])
def test_where_the_answers_are_is_said_whatever_else_went_wrong(data: Path, error: Exception) -> None:
    with pytest.raises(GoneWithCopy, match="all its answers are in"), Journal.of(data) as journal:
        fill(journal, "a")
        shutil.rmtree(data.parent)
        raise error
    found(data, "a")


def test_a_bug_is_not_covered_and_nothing_is_lost(data: Path) -> None:
    with pytest.raises(KeyError), Journal.of(data) as journal:
        fill(journal, "a")
        shutil.rmtree(journal.path.parent)
        raise KeyError
    found(data, "a")


@pytest.mark.parametrize("end", ["-wal", "-journal"])
def test_a_folder_in_the_place_of_the_journals_own_files_is_named(data: Path, end: str) -> None:
    """Permissions have nothing to do with it."""
    path = write(data / "journal.sqlite", "a")
    beside = path.with_name(path.name + end)
    beside.mkdir()
    with pytest.raises(BitnetError, match=rf"journal\.sqlite{end} is in the place of a file of the journal; move it"):
        Journal(path)
