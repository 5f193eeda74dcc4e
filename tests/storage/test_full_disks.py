"""Full disks, here and there: one sentence, nothing half, and a rerun finishes."""

import contextlib
import errno
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.storage import state as states
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push
from bitnet_core.storage.state import opened as opened_state
from bitnet_core.storage.target import Limits, Refused
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.verify import verify
from tests.storage.experiments import CHECKPOINT, MIB, Watcher, complete_state, fill, machine, restored
from tests.storage.memory import MemoryTarget

SMALL = Limits(object_bytes=MIB)
SIZES = {CHECKPOINT: 4 * MIB + 7, "data/a.parquet": MIB, "reports/r.json": 1000}


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of this size. Skips where none can be mounted."""
    folder.mkdir()
    mount = shutil.which("mount")
    if os.getuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=False)
    if made.returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def require_a_sentence(error: BaseException) -> None:
    text = str(error)
    assert "\n" not in text
    assert text.endswith(".")
    assert "; free space" in text, text


def test_a_full_disk_there(tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    contents = fill(one, SIZES)
    with small_disk(tmp_path / "disk", 4) as disk, opened_state(one.root, "disk") as state:
        target = FolderTarget("local", disk / "copy")
        target.limits = SMALL
        with Watcher(target, {name: [data] for name, data in contents.items()}):
            with pytest.raises(Refused) as refused:
                Push(one, target, state).run()
            require_a_sentence(refused.value)
            assert not list(target.list("_temp/"))
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
            Push(one, target, state).run()
        stored = restored(target, complete_state(target))
    assert {name: stored[name] for name in contents} == contents


def test_a_full_disk_here_while_pulling(tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    contents = fill(one, SIZES)
    target = MemoryTarget(SMALL)
    with opened_state(one.root, "memory") as state:
        Push(one, target, state).run()
    with small_disk(tmp_path / "disk", 3) as disk:
        two = machine(disk / "two")
        with opened_state(two.root, "memory") as state:
            published = complete_state(target)
            with pytest.raises(BitnetError) as failed:
                Pull(two, target, state, published).run(published.manifest.files)
            require_a_sentence(failed.value)
            for name, data in contents.items():
                path = two.root / name
                assert not path.exists() or path.read_bytes() == data, name
            assert not list(two.root.rglob("*.part"))
            subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)
            Pull(two, target, state, published).run(published.manifest.files)
        assert {name: (two.root / name).read_bytes() for name in contents} == contents
        assert not list(two.root.rglob("*.part"))


@pytest.mark.parametrize("call", ["pwrite", "fsync"])
def test_a_write_that_fails_here_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """As above, where no file system can be mounted: pwrite is for parts, fsync for whole files, too."""
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    contents = fill(one, SIZES)
    target = MemoryTarget(SMALL)
    with opened_state(one.root, "memory") as state:
        Push(one, target, state).run()

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    published = complete_state(target)
    with opened_state(two.root, "memory") as state:
        with monkeypatch.context() as patched, pytest.raises(BitnetError) as failed:
            patched.setattr(os, call, fail)
            Pull(two, target, state, published).run(published.manifest.files)
        require_a_sentence(failed.value)
        assert not (two.root / CHECKPOINT).exists() and not list(two.root.rglob("*.part"))
        Pull(two, target, state, published).run(published.manifest.files)
    assert {name: (two.root / name).read_bytes() for name in contents} == contents


def test_a_full_disk_under_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite says that its disk is full when a database may have no more pages."""
    one = machine(tmp_path / "one")
    contents = fill(one, {**SIZES, **{f"reports/{'x' * 100}{number}.json": 10 for number in range(200)}})
    target = MemoryTarget(SMALL)
    with opened_state(one.root, "memory") as state:
        writer = state.writer
    with opened_state(one.root, "memory") as state, pytest.raises(BitnetError) as failed:
        state._db.execute("pragma max_page_count = 12")
        Push(one, target, state).run()
    require_a_sentence(failed.value)
    assert not target.objects or complete_or_none(target)
    with opened_state(one.root, "memory") as state:
        assert state.writer == writer
        Push(one, target, state).run()
        assert verify(target, complete_state(target)).faults == []
    stored = restored(target, complete_state(target))
    assert {name: stored[name] for name in contents} == contents


def complete_or_none(target: MemoryTarget) -> bool:
    return not any(key.startswith("manifests/") for key in target.objects)


def test_a_state_that_has_no_space_to_open_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows what other machines stored, so it is set aside only if it is damaged."""
    one = machine(tmp_path / "one")
    with opened_state(one.root, "memory") as state:
        state.remember("manifest", "the last one")

    for said, fix in {"database or disk is full": "free space", "disk I/O error": "check the disk."}.items():
        with monkeypatch.context() as patched, pytest.raises(BitnetError, match=rf"\({said}\); {fix}"):
            patched.setattr(states.sqlite3, "connect", Mock(side_effect=sqlite3.OperationalError(said)))
            with opened_state(one.root, "memory"):
                pass
    with opened_state(one.root, "memory") as state:
        assert state.note("manifest") == "the last one"
    (path,) = (one.root / ".storage").glob("*.sqlite")
    path.write_bytes(b"not a database at all" * 100)
    with opened_state(one.root, "memory") as state:
        assert state.note("manifest") == ""


@pytest.mark.parametrize("where", ["there", "here"])
def test_a_disk_that_may_not_be_written(tmp_path: Path, where: str) -> None:
    target = MemoryTarget(SMALL)
    with small_disk(tmp_path / "disk", 16) as disk:
        one = machine(disk / "one" if where == "here" else tmp_path / "one")
        contents = fill(one, SIZES)
        place = FolderTarget("local", disk / "copy") if where == "there" else target

        def push() -> None:
            with states.exclusive(one.root), opened_state(one.root, "disk") as state:
                Push(one, place, state).run()

        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(BitnetError, match=r"Read-only file system\); mount its file system for writing, or"):
            push()
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
        push()
        stored = restored(place, complete_state(place))
    assert {name: stored[name] for name in contents} == contents
