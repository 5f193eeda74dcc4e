"""A journal whose file is removed, replaced or moved while it is open; copies that are taken in; old places."""

import errno
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.collecting import journal_file
from bitnet_core.collecting.journal import Charge, Journal, StoredAnswer
from bitnet_core.errors import BitnetError
from bitnet_core.runs.presence import Gone
from bitnet_core.traces import places

ANSWERS = {f"key{number}": StoredAnswer("ok", b"answer %d" % number * 50) for number in range(20)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "experiment" / "data"
    folder.mkdir(parents=True)
    return folder


def replace_by_a_copy(path: Path) -> None:
    shutil.copy(path, path.with_name("swap"))
    path.with_name("swap").replace(path)


def rename_and_start_anew(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.mkdir()


LOSSES: dict[str, Callable[[Path], object]] = {
    "unlinked": Path.unlink,
    "its WAL unlinked": lambda path: journal_file.wal_of(path).unlink(),
    "both unlinked": lambda path: (path.unlink(), journal_file.wal_of(path).unlink()),
    "renamed": lambda path: path.rename(path.with_name("other.sqlite")),
    "folder removed": lambda path: shutil.rmtree(path.parent),
    "folder renamed": lambda path: path.parent.rename(path.parent.with_name("elsewhere")),
    "folder renamed and a new one there": rename_and_start_anew,
    "experiment removed": lambda path: shutil.rmtree(path.parents[1]),
    "experiment renamed": lambda path: path.parents[1].rename(path.parents[2] / "moved"),
    "replaced by a copy": replace_by_a_copy,
    "replaced by an empty file": lambda path: (path.unlink(), path.touch()),
    "replaced by a folder": lambda path: (path.unlink(), path.mkdir()),
    "replaced by a link": lambda path: (
        path.rename(path.with_name("x")),
        shutil.copy(path.with_name("x"), path.with_name("y")),
        path.symlink_to("y"),
    ),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=LOSSES)
def test_what_was_paid_for_is_in_a_copy_that_the_next_run_takes_in(
    data: Path, lose: Callable[[Path], object]
) -> None:
    with (
        pytest.raises(Gone, match=r"was removed .*while collect .*; all its answers are in .*continues"),
        Journal.of(data) as journal,
    ):
        sent = [journal.record_sent(key, Charge(10, 100)) for key in ANSWERS]
        for number, (key, entry) in enumerate(ANSWERS.items()):
            if number == 12:
                lose(journal.path)
            if number < 12:
                journal.put(key, entry, sent[number], Charge(1, 2))
            else:  # in flight when the file went away: stored all the same
                with pytest.raises(Gone):
                    journal.put(key, entry, sent[number], Charge(1, 2))
        with pytest.raises(Gone):
            journal.record_sent("more", Charge(10, 100))
        assert journal.get("key0") == ANSWERS["key0"]
        assert journal.spent().requests == 20
    path = places.journal(data)
    if path.is_dir():
        path.rmdir()
    data.mkdir(parents=True, exist_ok=True)
    with Journal.of(data) as journal:
        assert {key: journal.get(key) for key in ANSWERS} == ANSWERS
        assert (journal.spent().requests, journal.spent().tokens, journal.close_lost()) == (20, 60, 0)
        assert not journal_file.copies(path)
    with Journal.of(data) as journal:
        assert journal.spent().requests == 20
        assert journal.taken_in == []


def test_it_is_noticed_at_the_end_too(data: Path) -> None:
    with pytest.raises(Gone, match="was removed"), Journal.of(data) as journal:
        journal.put("a", ANSWERS["key1"])
        journal.path.unlink()
    with Journal.of(data) as journal:
        assert journal.get("a") == ANSWERS["key1"]


def test_another_error_is_not_covered_by_the_end(data: Path) -> None:
    with pytest.raises(KeyError), Journal.of(data) as journal:
        journal.path.unlink()
        raise KeyError


def test_where_nothing_can_be_beside_it_the_copy_is_in_the_cache(
    data: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BITNET_CACHE", str(tmp_path / "cache"))
    with (
        pytest.raises(Gone, match=r"move it into .*data\.journal, and `bitnet collect` continues"),
        Journal.of(data) as journal,
    ):
        journal.put("a", ANSWERS["key1"])
        shutil.rmtree(journal.path.parents[1])
        journal.path.parents[1].touch()  # a file in place of the experiment
        journal.put("b", ANSWERS["key2"])
    (copy,) = (tmp_path / "cache" / "journals").iterdir()
    with Journal(copy) as journal:
        assert journal.get("b") == ANSWERS["key2"]


def test_where_nothing_can_be_saved_it_says_so(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal_file, "write_copy", fail)
    with pytest.raises(Gone, match=r"was removed .*can't be saved .*No space"), Journal.of(data) as journal:
        journal.path.unlink()
        journal.put("a", ANSWERS["key1"])


def test_a_file_that_can_be_read_only_in_part_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        keys = [f"key{number:03d}" for number in range(300)]
        for key in keys:
            journal.put(key, StoredAnswer("ok", os.urandom(200)))
        (page,) = journal._db.execute("pragma page_size").fetchone()
    content = bytearray(path.read_bytes())
    leaves = [
        start
        for start in range(page, len(content), page)
        if content[start] == 0x0A and b"key150" in content[start : start + page]
    ]
    content[leaves[0] : leaves[0] + page] = os.urandom(page)
    path.write_bytes(content)

    class NoBackup(sqlite3.Connection):
        def backup(self, *_: Any, **__: Any) -> None:
            raise sqlite3.OperationalError("disk I/O error")

    db = sqlite3.connect(path, factory=NoBackup)
    journal_file.write_copy(db, tmp_path / "copy.sqlite")
    with Journal(tmp_path / "copy.sqlite") as journal:
        kept = [key for key in keys if journal.get(key) is not None]
    assert (kept[0], kept[-1]) == (keys[0], keys[-1])
    assert 250 <= len(kept) < 300


def test_a_live_journal_that_took_the_place_keeps_its_wal(data: Path) -> None:
    """Closing a lost journal must not delete the WAL of the one at its path now."""
    script = """
import sys
from pathlib import Path
from bitnet_core.collecting.journal import Journal, StoredAnswer
from bitnet_core.runs.presence import Gone
try:
    with Journal.of(Path(sys.argv[1])) as journal:
        print("open", flush=True)
        sys.stdin.readline()
        journal.put("first", StoredAnswer("ok", b"1"))
except Gone:
    print("gone", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        places.journal(data).unlink()
        journal_file.wal_of(places.journal(data)).unlink()
        with Journal.of(data) as second:
            second.put("second", StoredAnswer("ok", b"2"))
            first.stdin.write("\n")
            first.stdin.flush()
            assert first.stdout.readline() == "gone\n"
            assert first.wait() == 0
            assert journal_file.wal_of(second.path).exists()
            second.put("third", StoredAnswer("ok", b"3"))
    with Journal.of(data) as journal:
        assert [journal.get_status(key) for key in ("first", "second", "third")] == ["ok"] * 3


# -- copies ----------------------------------------------------------------------------------------------


def test_a_copy_of_another_journal_adds_its_charges_and_one_of_this_journal_does_not(data: Path) -> None:
    with Journal.of(data) as journal:
        journal.put("a", StoredAnswer("refused", b""), journal.record_sent("a", Charge(1, 1)), Charge(1, 1))
        path = journal.path
    shutil.copy(path, journal_file.new_copy(path.parent))
    with Journal.of(data) as journal:
        assert journal.spent().requests == 1
    with Journal(journal_file.new_copy(path.parent)) as other:
        other.put("a", StoredAnswer("ok", b"x"), other.record_sent("a", Charge(2, 2)), Charge(2, 2))
        other.write_note("probe", "ok")
    with Journal.of(data) as journal:
        assert (journal.spent().requests, journal.spent().tokens) == (2, 6)
        assert journal.get("a") == StoredAnswer("ok", b"x")
        assert journal.read_note("probe") == "ok"


def test_a_copy_taken_in_by_a_killed_run_is_not_counted_twice(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.of(data) as journal:
        path = journal.path
    copy = journal_file.new_copy(path.parent)
    with Journal(copy) as other:
        other.record_sent("a", Charge(2, 2))
    unlink = Path.unlink

    def die(path: Path, missing_ok: bool = False) -> None:
        if path == copy:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", die)
    with pytest.raises(KeyboardInterrupt):
        Journal.of(data)
    monkeypatch.undo()
    for _ in range(2):
        with Journal.of(data) as journal:
            assert journal.spent().requests == 1
    assert not copy.exists()


def test_a_damaged_copy_is_named_and_kept(data: Path) -> None:
    with Journal.of(data) as journal:
        path = journal.path
    copy = journal_file.new_copy(path.parent)
    copy.write_bytes(b"this is no database" * 100)
    with pytest.raises(BitnetError, match=f"{copy} is damaged"):
        Journal.of(data)
    assert copy.exists()


# -- the old place ---------------------------------------------------------------------------------------


def old_journal(data: Path, *keys: str) -> Path:
    old = data / "journal.sqlite"
    with Journal(old) as journal:
        for key in keys:
            journal.put(key, ANSWERS[key], journal.record_sent(key, Charge(1, 1)), Charge(1, 1))
    return old


def test_the_journal_of_an_earlier_version_is_moved_out_of_the_data(data: Path) -> None:
    old_journal(data, "key1", "key2")
    with Journal.of(data) as journal:
        assert journal.path == data.with_name("data.journal") / "journal.sqlite"
        assert journal.get("key2") == ANSWERS["key2"]
        assert journal.spent().requests == 2
    assert list(data.iterdir()) == []


def test_an_earlier_version_that_ran_again_is_taken_in(data: Path) -> None:
    old_journal(data, "key1")
    with Journal.of(data) as journal:
        assert journal.get("key1") is not None
    old_journal(data, "key2")
    with Journal.of(data) as journal:
        assert [journal.get(key) for key in ("key1", "key2")] == [ANSWERS["key1"], ANSWERS["key2"]]
        assert journal.spent().requests == 2
    assert list(data.iterdir()) == []


def test_a_killed_run_of_an_earlier_version_left_its_wal(data: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from bitnet_core.collecting.journal import *\n"
        "journal = Journal(Path(sys.argv[1])); journal.put('a', StoredAnswer('ok', b'x')); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", script, str(data / "journal.sqlite")], check=False)
    assert (data / "journal.sqlite-wal").stat().st_size > 0
    with Journal.of(data) as journal:
        assert journal.get("a") == StoredAnswer("ok", b"x")
    assert list(data.iterdir()) == []


def test_a_run_of_an_earlier_version_is_not_disturbed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: connect(*args, **more | {"timeout": 0}))
    script = (
        "import sys; from pathlib import Path; from bitnet_core.collecting.journal import *\n"
        "journal = Journal(Path(sys.argv[1])); journal.put('a', StoredAnswer('ok', b'x')); print(1, flush=True)\n"
        "sys.stdin.read(); journal.put('b', StoredAnswer('ok', b'y')); journal._db.close()"
    )
    command = [sys.executable, "-c", script, str(data / "journal.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdout.readline()
        with pytest.raises(BitnetError, match="is in use by another program"):
            Journal.of(data)
        running.stdin.close()
        assert running.wait() == 0
    with Journal.of(data) as journal:
        assert [journal.get_status(key) for key in "ab"] == ["ok", "ok"]


@pytest.mark.parametrize("moment", ["rename", "mkdir"])
def test_a_kill_while_it_is_moved_loses_nothing(data: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    old_journal(data, "key1", "key2")
    for after in (False, True):
        real = getattr(Path, moment)

        def die(path: Path, *args: Any, _real: Any = real, _after: bool = after, **more: Any) -> None:
            if _after:
                _real(path, *args, **more)
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, moment, die)
        with pytest.raises(KeyboardInterrupt):
            Journal.of(data)
        monkeypatch.undo()
    with Journal.of(data) as journal:
        assert journal.get("key2") == ANSWERS["key2"]
        assert journal.spent().requests == 2


def test_a_journal_that_cannot_be_moved_is_used_where_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = old_journal(data, "key1")

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "rename", refuse)
    for _ in range(2):
        with Journal.of(data) as journal:
            assert journal.path == old
            assert journal.get("key1") == ANSWERS["key1"]


# -- file systems without record locks -------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL])
def test_without_record_locks_a_lock_file_is_used(data: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with Journal.of(data) as journal:
        assert not journal.has_record_locks
        journal.put("a", ANSWERS["key1"])
        # No record lock is held: SQLite itself would let another program in.
        assert sqlite3.connect(f"file:{journal.path}?immutable=1", uri=True, timeout=0).execute("select 1").fetchone()
        with pytest.raises(BitnetError, match="is in use by another program"):
            Journal.of(data)
        journal.put("b", ANSWERS["key2"])
    with Journal.of(data) as journal:
        assert [journal.get(key) for key in "ab"] == [ANSWERS["key1"], ANSWERS["key2"]]


def test_with_record_locks_there_is_no_lock_file(data: Path) -> None:
    with Journal.of(data) as journal:
        assert journal.has_record_locks
        assert {path.name for path in journal.path.parent.iterdir()} == {"journal.sqlite", "journal.sqlite-wal"}
