"""The journal: what was said once is never lost, also to kill -9."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.traces.journal import Entry, Journal

_WRITER = """
import sys
from pathlib import Path
from bitnet_core.traces.journal import Entry, Journal
with Journal(Path(sys.argv[1])) as journal:
    for number in range(100000):
        journal.put(f"key{number}", Entry("ok", b"answer %d" % number * 50))
        print(number, flush=True)
"""


def test_answers_are_kept_and_good_ones_never_replaced(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.put("a", Entry("no_logprobs", b""))
        assert journal.keys() == set()
        journal.put("a", Entry("ok", b"first"))
        journal.put("a", Entry("ok", b"second"))
        journal.put("a", Entry("no_text", b""))
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert journal.keys() == {"a"}
        assert journal.get("a") == Entry("ok", b"first")
        assert journal.get("b") is None


def test_sending_is_counted_and_notes_are_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert [journal.sending("a"), journal.sending("a"), journal.sending("b")] == [1, 2, 1]
        assert journal.note("probe") is None
        journal.write_note("probe", "raw")
        assert journal.note("probe") == "raw"


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
        kept = journal.keys()
        assert {f"key{number}" for number in range(after + 1)} <= kept
        for key in kept:
            entry = journal.get(key)
            assert entry == Entry("ok", b"answer %d" % int(key.removeprefix("key")) * 50)


@pytest.mark.parametrize("content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_journal_is_named_with_the_fix(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(BitnetError, match="move it away"):
        Journal(path)
    assert path.read_bytes() == content


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").mkdir()
    with pytest.raises(BitnetError, match="can't be used"):
        Journal(tmp_path / "journal.sqlite")
