"""What has its name in a folder is on the disk: power failures, full disks, and disks that fail."""

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.layout import part_key
from bitnet_core.storage.target import Refused
from bitnet_core.storage.targets.local import FolderTarget
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


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


class Folder(FolderTarget):
    """A folder with small parts."""

    limits = replace(FolderTarget.limits, object_bytes=MIB // 16)


def filled(folder: Path) -> tuple[Experiment, dict[str, bytes]]:
    one = machine(folder)
    contents = {name: content(MIB, seed) for seed, name in enumerate((CHECKPOINT, "data/x"))}
    for name, data in contents.items():
        write(one, name, data)
    return one, contents


def test_what_has_a_name_is_on_the_disk(tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a power failure takes nothing that anybody relies on, and leaves nothing half-written under a final name."""
    one, contents = filled(tmp_path / "one")
    copy, named = tmp_path / "copy", []
    link, replace_ = os.link, os.replace

    def naming(name: Callable[[Path, Path], None], source: Path, target: Path) -> None:
        if copy in target.parents:
            named.append(target)
            assert source.stat().st_ino in disk.durable
        name(source, target)

    monkeypatch.setattr(os, "link", lambda source, target: naming(link, source, target))
    monkeypatch.setattr(Path, "replace", lambda source, target: naming(replace_, source, target))
    target = Folder("local", copy)
    push(one, target)
    write(one, "data/x", content(MIB, 9))
    push(one, target)
    published = complete_state(target)
    assert {copy / key for key in published.manifest.objects()} <= set(named)
    assert all(path.parent.stat().st_ino in disk.durable for path in named if path.exists())
    assert restored(target, published)[CHECKPOINT] == contents[CHECKPOINT]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_or_fails_at_the_fsync(tmp_path: Path, disk: Disk, error: int) -> None:
    """What could not be written gets no name: read from memory, it would look whole."""
    one, contents = filled(tmp_path / "one")
    copy = tmp_path / "copy"
    target = Folder("local", copy)
    failed: set[Path] = set()

    def fail(path: Path) -> int:
        if path.stat().st_size != MIB // 16:
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
    assert not list(target.list("data/"))
    assert not manifests.keys(target)
    assert not (copy / "data/x.parts/index.json").exists()
    assert not list(target.list("_temp/"))
    disk.fails = lambda _path: 0
    push(one, target)
    assert contents.items() <= restored(target, complete_state(target)).items()
    assert (copy / part_key("data/x", 0)).read_bytes() == contents["data/x"][: MIB // 16]
