"""A journal with a changed byte in a page's head: SQLite would see fewer answers, and all would be paid for again."""

import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from bitnet_core.collecting import journal_file
from bitnet_core.collecting.journal import Charge, Journal, StoredAnswer
from bitnet_core.collecting.journal_salvage import salvage
from bitnet_core.errors import BitnetError
from bitnet_core.traces import places

_SIZES = (0, 30, 500, 3000, 9000)
ANSWERS = {
    f"key{number:03}": StoredAnswer("no_text" if number % 9 == 5 else "ok", os.urandom(_SIZES[number % len(_SIZES)]))
    for number in range(120)
}
PAGE = 4096


def filled(data: Path) -> Path:
    """A journal with all ANSWERS; its path."""
    with Journal.of(data) as journal:
        for key, answer in ANSWERS.items():
            sent = journal.record_sent(key, Charge(9, 99, 0.5))
            journal.put(key, answer, sent, Charge(3, 4, 0.25), ("noted", key))
        journal.record_sent("lost", Charge(9, 99, 0.5))
        return journal.path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return filled(tmp_path_factory.mktemp("whole") / "data")


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    path = places.journals(tmp_path / "data")[0]
    path.parent.mkdir(parents=True)
    shutil.copyfile(whole, path)
    return path


def change(path: Path, at: int, value: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)


def root_of(path: Path, table: str) -> int:
    """Where the first page of a table begins in the file."""
    with sqlite3.connect(path) as db:
        (page,) = db.execute("select rootpage from sqlite_master where name = ?", (table,)).fetchone()
    db.close()
    return (int(page) - 1) * PAGE


def test_every_row_is_found_without_the_trees(path: Path) -> None:
    """SQLite's own reading is the slow twin."""
    found = salvage(path)
    with sqlite3.connect(path) as db:
        answers = db.execute("select key, status, body, at, attempts, crc from answers").fetchall()
        sendings = db.execute("select * from sendings").fetchall()
        notes = db.execute("select * from notes").fetchall()
    db.close()
    assert sorted(found.answers.values()) == sorted(answers)
    assert sorted(found.sendings.values()) == sorted(sendings)
    assert sorted(found.notes.items()) == sorted(notes)
    assert found.lost_sendings == 0


@pytest.mark.parametrize("less", ["all", "one", "more"])
@pytest.mark.parametrize("table", ["answers", "sendings", "notes"])
def test_a_changed_number_of_cells_costs_no_answer(path: Path, table: str, less: str) -> None:
    at = root_of(path, table) + 3
    cells = int.from_bytes(path.read_bytes()[at : at + 2], "big")
    change(path, at, {"all": 0, "one": cells - 1, "more": cells + 1}[less].to_bytes(2, "big"))
    damaged = path.read_bytes()
    with Journal.of(path.parents[1] / "data") as journal:
        assert {key: journal.get(key) for key in ANSWERS} == ANSWERS
        assert (journal.spent().requests, journal.spent().tokens, journal.close_lost()) == (121, 948, 1)
        assert journal.read_note("noted") == "key119"
        (repaired,) = journal.repaired
        assert (repaired.answers, repaired.lost_sendings) == (len(ANSWERS), 0)
        assert repaired.kept.read_bytes() == damaged
        assert not journal_file.copies(path)
    with Journal.of(path.parents[1] / "data") as journal:
        assert not journal.repaired
        assert journal.get("key007") == ANSWERS["key007"]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_byte_of_a_pages_head_is_changed_the_others_are_kept(path: Path, seed: int) -> None:
    draw = random.Random(seed)
    pages = path.stat().st_size // PAGE
    data = path.read_bytes()
    page = draw.choice([one for one in range(1, pages) if data[one * PAGE] in (2, 5, 10, 13)])
    at = page * PAGE + draw.randrange(8)
    change(path, at, bytes([data[at] ^ 1 << draw.randrange(8)]))
    with Journal.of(path.parents[1] / "data") as journal:
        found = {key: one for key in ANSWERS if (one := journal.get(key))}
        assert found.items() <= ANSWERS.items()
        assert len(found) > len(ANSWERS) * 0.6
        if found != ANSWERS:
            assert journal.repaired


def test_what_is_in_the_wal_is_found_as_well(path: Path, tmp_path: Path) -> None:
    with Journal(path) as journal:
        journal.put("late", StoredAnswer("ok", b"in the WAL"))
        copy = tmp_path / "copy" / path.name
        copy.parent.mkdir()
        for end in ("", "-wal"):
            shutil.copyfile(f"{path}{end}", f"{copy}{end}")
    assert "late" in salvage(copy).answers


def test_where_no_row_can_be_read_the_file_stays_and_is_named(path: Path) -> None:
    change(path, PAGE, bytes(path.stat().st_size - PAGE))
    damaged = path.read_bytes()
    with pytest.raises(BitnetError, match=r"journal\.sqlite is damaged \(.*\); keep it"):
        Journal.of(path.parents[1] / "data")
    assert path.read_bytes() == damaged
    assert [one.name for one in path.parent.iterdir()] == [path.name]
