"""What killed writers leave is removed by whoever writes in that folder next, and nothing else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bitnet_core import files, process
from bitnet_core.files import half_written

_WRITER = """
import sys, time
from pathlib import Path
from bitnet_core import files
with files.atomic_path(Path(sys.argv[1])) as temp:
    temp.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
DEAD = half_written._writer(2**22 + 1)


def test_kill_9_leaves_the_old_file_and_a_temp_file_that_the_next_writer_removes(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    assert half_written.remove_leftovers(tmp_path) == []
    os.kill(writer.pid, signal.SIGKILL)
    writer.communicate()
    others = {".b.txt.deadbeef-1-00000000.part", ".answers.part", f".c.{DEAD}", f"d.{DEAD}-0.part", ".e.-1-0.part"}
    for name in others:
        (tmp_path / name).write_text("not a leftover of this host")
    folder = tmp_path / f".b-hf.{half_written._writer(writer.pid)}-00000000.part"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "c.txt").write_text("half")
    assert path.read_text() == "old"
    files.write_text(tmp_path / "another.txt", "new")
    assert {one.name for one in tmp_path.iterdir()} == {*others, "a.txt", "another.txt"}


def test_a_process_of_another_container_counts_as_one_of_another_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "namespace", lambda: "pid:[1]")
    left = tmp_path / f".a.{half_written._writer(2**22 + 1)}-0.part"
    left.touch()
    monkeypatch.undo()
    assert half_written.remove_leftovers(tmp_path) == []


@pytest.mark.parametrize("taken", [False, True])
def test_a_folder_whose_replacement_was_killed_gets_its_name_back(tmp_path: Path, taken: bool) -> None:
    old, new = tmp_path / f".o.{DEAD}-1.old.part", tmp_path / f".o.{DEAD}-0.part"
    for folder in (old, new, *([tmp_path / "o"] if taken else [])):
        folder.mkdir()
        (folder / "what").write_text(folder.name)
    half_written.remove_leftovers(tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["o"]
    assert (tmp_path / "o" / "what").read_text() == ("o" if taken else old.name)


def test_a_folder_that_can_not_be_put_in_place_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "o").mkdir()
    with pytest.raises(OSError):
        half_written.replace_folder(tmp_path / "absent", tmp_path / "o")
    assert [one.name for one in tmp_path.iterdir()] == ["o"]


@pytest.mark.parametrize("in_one_step", [True, False])
def test_a_folder_is_replaced_in_one_step_where_the_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_step: bool
) -> None:
    """Killed between two renames, an export had no name until the next one was written."""
    new, there = tmp_path / "new", tmp_path / "there"
    for folder in (new, there):
        folder.mkdir()
        (folder / "what").write_text(folder.name)
    if in_one_step:
        if not sys.platform.startswith("linux"):
            pytest.skip("Linux alone exchanges names")
        monkeypatch.delattr(Path, "rename")
    else:
        monkeypatch.setattr(half_written, "_exchanged", lambda *_: False)
    half_written.replace_folder(new, there)
    assert (there / "what").read_text() == "new"
    assert [one.name for one in tmp_path.iterdir()] == ["there"]


def test_what_was_left_is_continued_by_a_writer_of_the_same_alone(tmp_path: Path) -> None:
    for name, writer in (("o", DEAD), ("p", DEAD), ("o", "deadbeef-1")):
        (tmp_path / f".{name}.{writer}-0.part").mkdir()
        (tmp_path / f".{name}.{writer}-0.part" / "what").write_text(name)
    found = half_written.continued_beside(tmp_path / "o")
    assert (found / "what").read_text() == "o"
    assert {one.name for one in tmp_path.iterdir()} == {found.name, ".o.deadbeef-1-0.part"}
    assert not half_written.continued_beside(tmp_path / "new" / "q").exists()
