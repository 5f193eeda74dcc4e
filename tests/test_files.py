"""Files are complete or absent, even when the writer fails or is killed; locks have one owner."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError

_WRITER = """
import sys, time
from pathlib import Path
from bitnet_core import files
with files.atomic_path(Path(sys.argv[1])) as temp:
    temp.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


def test_an_error_leaves_the_old_file_and_no_temp_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.atomic_path(path) as temp:
        temp.write_text("torn")
        raise RuntimeError
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_kill_9_leaves_the_old_file_and_a_temp_file_that_the_next_run_removes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    assert files.remove_leftovers(tmp_path) == []
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    time.sleep(0.05)
    (tmp_path / ".b.txt.deadbeef-1-00000000.part").write_text("of another host")
    assert path.read_text() == "old"
    assert len(files.remove_leftovers(tmp_path)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.txt.deadbeef-1-00000000.part", "a.txt"]


@pytest.mark.parametrize(("text", "sentence"), [(None, "does not exist"), ("{", "is not valid JSON")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None, sentence: str) -> None:
    if text is not None:
        (tmp_path / "x.json").write_text(text)
    with pytest.raises(BitnetError, match=sentence):
        files.read_json(tmp_path / "x.json")


def test_a_lock_is_held_by_one_owner_and_released_at_the_end(tmp_path: Path) -> None:
    tries: list[int] = []

    def give_up() -> None:
        tries.append(1)
        if len(tries) == 3:
            raise BitnetError("taken")

    for path in (tmp_path, tmp_path / "lock"):
        with files.locked(path), pytest.raises(BitnetError, match="taken"), files.locked(path, give_up):
            pytest.fail("the lock was held twice")
        assert len(tries) == 3
        tries.clear()
        with files.locked(path, give_up):
            assert not tries


def test_a_lock_file_has_the_mode_that_was_asked_for(tmp_path: Path) -> None:
    with files.locked(tmp_path / "lock", mode=0o600):
        assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600
