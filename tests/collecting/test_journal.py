"""The journal: a stored answer is never lost, not even to kill -9."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from bitnet_core.collecting.journal import Charge, Journal, Spent, Standing, StoredAnswer
from bitnet_core.errors import BitnetError

_WRITER = """
import sys
from pathlib import Path
from bitnet_core.collecting.journal import StoredAnswer, Journal
with Journal(Path(sys.argv[1])) as journal:
    for number in range(100000):
        journal.put(f"key{number}", StoredAnswer("ok", b"answer %d" % number * 50))
        print(number, flush=True)
"""


def test_answers_are_stored_and_usable_ones_never_replaced(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.put("a", StoredAnswer("no_logprobs", b""))
        assert journal.get_status("a") != "ok"
        journal.put("a", StoredAnswer("ok", b"first"))
        journal.put("a", StoredAnswer("ok", b"second"))
        journal.put("a", StoredAnswer("no_text", b""))
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert journal.get_status("a") == "ok"
        assert journal.get("a") == StoredAnswer("ok", b"first")
        assert journal.get("b") is None


def test_requests_cost_their_worst_case_until_they_are_closed(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        first, second, third, fourth = (journal.record_sent(key, Charge(10, 100, 0.5)) for key in "abab")
        assert journal.spent() == Spent(4, 440, 2.0)
        journal.put("a", StoredAnswer("ok", b"x"), first, Charge(5, 20, 0.1))
        journal.close_sent(second, "failed", Charge(0, 0))
        journal.close_sent(third, "failed")
        assert journal.spent() == Spent(4, 245, pytest.approx(1.1))
        assert journal.close_lost() == 1  # the fourth
        assert journal.close_lost() == 0
        assert journal.spent().tokens == 245
        assert fourth == 4


def test_notes_are_stored(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert journal.read_note("probe") is None
        journal.write_note("probe", "raw")
        assert journal.read_note("probe") == "raw"


def test_answers_of_the_first_version_are_still_read(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal._db.execute(
            "insert into answers (key, status, body, at) values ('old', 'ok', ?, 0)", (zlib.compress(b"said"),)
        )
        assert journal.get("old") == StoredAnswer("ok", b"said")


def test_a_journal_of_the_first_version_is_migrated(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    old = sqlite3.connect(path)
    old.execute("create table answers (key text primary key, status text, body blob, at real) without rowid")
    old.execute("insert into answers values ('a', 'ok', ?, 7), ('b', 'no_text', x'', 7)", (zlib.compress(b"said"),))
    old.commit()
    old.close()
    for _ in range(2):
        with Journal(path) as journal:
            assert journal.get("a") == StoredAnswer("ok", b"said")
            assert journal.standing("b") == Standing("no_text", 1)
            assert journal._db.execute("pragma user_version").fetchone() == (1,)


def test_a_journal_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal._db.execute("pragma user_version = 2")
    before = path.read_bytes()
    with pytest.raises(BitnetError, match="newer version"):
        Journal(path)
    assert path.read_bytes() == before


def test_it_counts_the_runs_that_asked_for_an_answer_in_vain(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert journal.standing("a") is None
        for attempts in (1, 2):
            journal.put("a", StoredAnswer("refused", b""))
            standing = journal.standing("a")
            assert standing is not None
            assert (standing.status, standing.attempts) == ("refused", attempts)


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_one_flipped_bit_costs_one_answer(tmp_path: Path, place: int) -> None:
    body = os.urandom(200)
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.put("a", StoredAnswer("ok", body))
        journal.put("b", StoredAnswer("ok", b"whole"))
        packed = bytearray(journal._db.execute("select body from answers where key = 'a'").fetchone()[0])
        packed[place] ^= 4
        journal._db.execute("update answers set body = ? where key = 'a'", (bytes(packed),))
        assert journal.get_status("a") == "ok"
        assert journal.get("a") is None
        assert journal.damaged == 1
        assert journal.get_status("a") != "ok"
        assert journal.standing("a") is None
        assert journal.get("b") == StoredAnswer("ok", b"whole")
        assert journal.get("a") is None
        assert journal.damaged == 1
        journal.put("a", StoredAnswer("ok", body))
        assert journal.get("a") == StoredAnswer("ok", body)


def test_a_full_disk_is_named_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.put("before", StoredAnswer("ok", b"x"))
        sent = journal.record_sent("big", Charge(10, 100, 0.5))
        (pages,) = journal._db.execute("pragma page_count").fetchone()
        journal._db.execute(f"pragma max_page_count = {pages + 2}")
        for _ in range(2):
            with pytest.raises(BitnetError, match=r"The disk with .* is full; free some space"):
                journal.put("big", StoredAnswer("ok", os.urandom(50_000)), sent, Charge(1, 2, 0.1))
        assert journal.spent() == Spent(1, 110, 0.5)
        journal._db.execute("pragma max_page_count = 100000")
        journal.put("big", StoredAnswer("ok", b"y"), sent, Charge(1, 2, 0.1))
    with Journal(path) as journal:
        assert journal.get_status("before") == "ok"
        assert journal.get_status("big") == "ok"
        assert journal.spent() == Spent(1, 3, 0.1)


def test_it_is_durable_and_locks_its_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        assert journal._db.execute("pragma journal_mode").fetchone() == ("wal",)
        assert journal._db.execute("pragma synchronous").fetchone() == (2,)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            sqlite3.connect(path, timeout=0).execute("select * from answers")


@pytest.mark.parametrize("after", [1, 7, 40])
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path, after: int) -> None:
    path = tmp_path / "journal.sqlite"
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == after:
                os.kill(process.pid, signal.SIGKILL)
                break
    with Journal(path) as journal:
        kept = {row[0] for row in journal._db.execute("select key from answers")}
        assert {f"key{number}" for number in range(after + 1)} <= kept
        for key in kept:
            entry = journal.get(key)
            assert entry == StoredAnswer("ok", b"answer %d" % int(key.removeprefix("key")) * 50)


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_journal_is_named_with_the_fix(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(BitnetError, match=r"keep it, .* \.recover"):
        Journal(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "change",
    [
        "pragma user_version = 0",
        "drop table answers",
        "alter table answers rename to others",
        "alter table answers drop column crc",
    ],
)
def test_tables_that_are_not_a_journals_are_not_blamed_on_permissions(tmp_path: Path, change: str) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.put("a", StoredAnswer("ok", b"x"))
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(change)
        db.commit()
    said = r"^The tables of .*journal\.sqlite are not those of a journal \(.*\); restore a backup, or move it away"
    with pytest.raises(BitnetError, match=said), Journal(path) as journal:
        journal.put("b", StoredAnswer("ok", b"x"))


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16"])
def test_a_database_of_another_program_gets_no_tables_of_a_journal(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"pragma encoding = '{encoding}'")
        db.execute("create table users (name)")
        db.commit()
        with pytest.raises(BitnetError, match=r"journal\.sqlite is a database of another program; move it away\.$"):
            Journal(path)
        assert db.execute("select name from sqlite_master").fetchall() == [("users",)]


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(BitnetError, match=r"journal\.sqlite is in the place of a file"):
        Journal(tmp_path / "journal.sqlite")


@pytest.mark.parametrize("crc", ["crc", "null", "0"])
@pytest.mark.parametrize("body", ["cast(body as text)", "5", "1.5", "'text'", "x''", "x'ff'"])
def test_a_body_of_another_type_costs_one_answer(tmp_path: Path, body: str, crc: str) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        for key in ("a", "b"):
            journal.put(key, StoredAnswer("ok", b"answer " * 50))
    with sqlite3.connect(path) as db:
        db.execute(f"update answers set body = {body}, crc = {crc} where key = 'a'")  # noqa: S608
    db.close()
    with Journal(path) as journal:
        assert journal.get("a") in (None, StoredAnswer("ok", b"answer " * 50))  # the same bytes, called text
        assert journal.get("b") == StoredAnswer("ok", b"answer " * 50)


@pytest.mark.parametrize("column", ["prompt_tokens", "usd"])
@pytest.mark.parametrize("value", ["-1000000000", "9e999", "-9e999", "1e30", "'free'", "x'00'", "''"])
def test_impossible_costs_lift_no_limit(tmp_path: Path, column: str, value: str) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        journal.record_sent("a", Charge(10, 10, 0.5))
    with sqlite3.connect(path) as db:
        db.execute(f"update sendings set {column} = {value}")  # noqa: S608
    db.close()
    with Journal(path) as journal, pytest.raises(BitnetError, match="impossible costs; restore it"):
        journal.spent()


def test_a_hard_linked_journal_is_a_copy_once_it_is_opened(tmp_path: Path) -> None:
    """As `cp -al` makes one, also of a journal in use: with its WAL, which SQLite keeps for each name."""
    path, linked = tmp_path / "one" / "journal.sqlite", tmp_path / "two" / "journal.sqlite"
    linked.parent.mkdir()
    with Journal(path) as journal:
        journal.put("a", StoredAnswer("ok", b"first"))
        for end in ("", "-wal"):
            os.link(f"{path}{end}", f"{linked}{end}")
        opening = "import sys, pathlib; from bitnet_core.collecting.journal import Journal; "
        opening += "Journal(pathlib.Path(sys.argv[1]))"
        done = subprocess.run([sys.executable, "-c", opening, linked], capture_output=True, text=True, check=False)
        assert "two/journal.sqlite is in use by another program" in done.stderr
        journal.put("b", StoredAnswer("ok", b"second"))
    for number in range(3):
        with Journal(linked) as journal:
            assert journal.get("a") == StoredAnswer("ok", b"first")
            journal.put(f"linked {number}", StoredAnswer("ok", os.urandom(9000)))
        with Journal(path) as journal:
            assert journal.get("b") == StoredAnswer("ok", b"second")
            assert journal.get_status(f"linked {number}") is None
            journal.put(f"own {number}", StoredAnswer("ok", os.urandom(9000)))
    for one, kind in ((linked, "linked"), (path, "own")):
        with Journal(one) as journal:
            assert all(journal.get(f"{kind} {number}") is not None for number in range(3))
            assert journal._db.execute("pragma integrity_check").fetchall() == [("ok",)]
