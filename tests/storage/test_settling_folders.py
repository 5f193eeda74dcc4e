"""A folder makes parts durable later: power failures, full disks, and what cannot be opened."""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.layout import part_key
from bitnet_core.storage.target import Refused, Unreachable
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.verify import verify
from tests.storage.experiments import CHECKPOINT, MIB, complete_state, content, machine, restored, write
from tests.storage.pushing import push

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")


class Disk:
    """Knows which files the disk has: those that were fsynced. `fails` is what fsync answers for some."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.durable: set[int] = set()
        self.fails: Callable[[Path], int] = lambda _path: 0
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, fd: int) -> None:
        if error := self.fails(Path(f"/dev/fd/{fd}").resolve()):
            raise OSError(error, os.strerror(error))
        if stat.S_ISREG(os.fstat(fd).st_mode):  # an SMB share takes no notice of an fsync otherwise
            assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        self.durable.add(os.fstat(fd).st_ino)

    def unsettled(self, folder: Path) -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file() and path.stat().st_ino not in self.durable]


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Folder(FolderTarget):
    """A folder with small parts. `before` is called with each key that is put for good."""

    limits = replace(FolderTarget.limits, object_bytes=MIB // 16)
    before: Callable[[str], None] = staticmethod(lambda _key: None)

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        self.before(key)
        super().put(key, data, only_if_absent=only_if_absent)


def filled(folder: Path) -> tuple[Experiment, dict[str, bytes]]:
    one = machine(folder)
    contents = {name: content(MIB, seed) for seed, name in enumerate((CHECKPOINT, "data/x"))}
    for name, data in contents.items():
        write(one, name, data)
    return one, contents


@pytest.mark.parametrize("how", ["empty", "cut", "zero", "other", "gone"])
@pytest.mark.parametrize("is_first", [True, False])
def test_a_folder_without_power_between_two_pushes(tmp_path: Path, disk: Disk, how: str, *, is_first: bool) -> None:
    one, contents = filled(tmp_path / "one")
    copy = tmp_path / "copy"
    target = Folder("local", copy)
    if not is_first:
        push(one, target)
        contents = {name: data[::-1] for name, data in contents.items()}
        for name, data in contents.items():
            write(one, name, data)
    disk.fails = lambda path: errno.EIO if path.name == "00009" else 0
    before = set(manifests.keys(target))
    with pytest.raises(Refused):
        push(one, target)
    assert set(manifests.keys(target)) == before
    disk.fails = lambda _path: 0
    unsettled = disk.unsettled(copy)
    for path in unsettled:
        data = path.read_bytes()
        if how == "gone":
            path.unlink()
        else:
            damaged = {"empty": b"", "cut": data[:-1], "zero": bytes(len(data)), "other": content(len(data), 99)}
            path.write_bytes(damaged[how])
    push(one, target)
    published = complete_state(target)
    assert verify(target, published).faults == []
    assert contents.items() <= restored(target, published).items()
    named = {copy / key for key in published.manifest.objects()}
    assert not named.intersection(disk.unsettled(copy))


def test_in_a_folder_nothing_names_a_part_that_is_not_on_the_disk(tmp_path: Path, disk: Disk) -> None:
    one, contents = filled(tmp_path / "one")
    copy = tmp_path / "copy"
    target, looked = Folder("local", copy), []

    def look(key: str) -> None:
        if key.endswith("index.json"):
            looked.append(key)
            assert not [path for path in disk.unsettled(copy) if path.parent == (copy / key).parent]
        if key.startswith(manifests.FOLDER):
            looked.append(key)
            assert not [path for path in disk.unsettled(copy) if ".parts" in str(path)]

    target.before = look
    push(one, target)
    assert len(looked) == 3
    assert contents.items() <= restored(target, complete_state(target)).items()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_or_fails_when_it_is_to_be_durable(tmp_path: Path, disk: Disk, error: int) -> None:
    """What could not be written is gone: read from memory, it would look whole."""
    one, contents = filled(tmp_path / "one")
    copy = tmp_path / "copy"
    target = Folder("local", copy)
    failed: set[Path] = set()

    def fail(path: Path) -> int:
        if "/data/x.parts/" not in str(path):
            return 0
        failed.add(path)
        return error

    disk.fails = fail
    with pytest.raises(Refused) as refused:
        push(one, target)
    text = str(refused.value)
    assert text.count(os.strerror(error)) == 1
    assert "\n" not in text
    assert text.endswith(".")
    assert failed
    assert not [path for path in failed if path.exists()]
    assert not manifests.keys(target)
    assert not (copy / "data/x.parts/index.json").exists()
    assert not list(target.list("_temp/"))
    disk.fails = lambda _path: 0
    push(one, target)
    assert contents.items() <= restored(target, complete_state(target)).items()
    assert (copy / part_key("data/x", 0)).read_bytes() == contents["data/x"][: MIB // 16]


def test_of_what_was_to_be_durable_together_nothing_that_failed_stays(tmp_path: Path, disk: Disk) -> None:
    target = Folder("local", tmp_path / "copy")
    for number in range(6):
        target.put_soon(f"a/{number}", b"1")
    disk.fails = lambda path: errno.EIO if path.name in ("1", "4") else 0
    with pytest.raises(Refused, match=r"a/1 can't be used \(.*\); .*\.$"):
        target.settle(f"a/{number}" for number in range(6))
    assert sorted(one.key for one in target.list("a/")) == ["a/0", "a/2", "a/3", "a/5"]


def test_what_can_not_be_opened_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing of the disk, and another machine's manifest may name it."""
    target = Folder("local", tmp_path / "copy")
    target.put_soon("a/b", b"1")
    target.settle(["a/b", "a/gone", "gone/b", "a/b/c"])
    really = os.open

    def fail(path: object, *given: int, **named: int) -> int:
        if str(path).endswith("a/b"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return really(path, *given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patched, pytest.raises(Refused, match="Too many open files"):
        patched.setattr(os, "open", fail)
        target.settle(["a/b"])
    assert target.get("a/b") == b"1"


@pytest.mark.parametrize("name", ["reports/r.json", CHECKPOINT])
def test_what_is_found_whole_is_made_durable_too(tmp_path: Path, disk: Disk, name: str) -> None:
    """Another machine was killed when it had put a file, or an index, and before the disk had its name."""
    one = machine(tmp_path / "one")
    write(one, name, content(1000 if name != CHECKPOINT else MIB))
    copy = tmp_path / "copy"

    def die(key: str) -> None:
        if key.startswith(manifests.FOLDER):
            raise Unreachable("killed")

    target = Folder("local", copy)
    target.before = die
    with pytest.raises(Unreachable):
        push(one, target)
    shutil.rmtree(one.root / ".storage")
    disk.durable.clear()
    target = Folder("local", copy)
    push(one, target)
    named = {copy / key for key in complete_state(target).manifest.objects()}
    assert not named.intersection(disk.unsettled(copy))
    assert all(path.parent.stat().st_ino in disk.durable for path in named)
