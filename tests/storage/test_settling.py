"""Parts that are put before they are durable: nothing names one until it is, and a power failure costs only those."""

import errno
import os
import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.target import Limits, Refused, Settling, Target, Unreachable, put_soon, settle
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import verify
from tests.storage.experiments import CHECKPOINT, complete_state, content, machine, restored, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import push

PART = 4000
PARTS = 36
INDEX = "index.json"


class Disk(MemoryTarget):
    """Knows what is not durable yet. A power failure at some call loses or damages that."""

    def __init__(self) -> None:
        super().__init__(Limits(object_bytes=PART, settles=True))
        self.soon: set[str] = set()
        self.dies_at: int | None = None
        self._calls = 0

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        self._count()
        if key.endswith(INDEX):
            assert not {one for one in self.soon if one.startswith(key.removesuffix(INDEX))}
        elif key.startswith(manifests.FOLDER):
            assert not self.soon
        super().put(key, data, only_if_absent=only_if_absent)

    def put_soon(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        self._count()
        super().put(key, data, only_if_absent=only_if_absent)
        self.soon.add(key)

    def settle(self, keys: Iterable[str]) -> None:
        self._count()
        self.soon -= set(keys)

    def _count(self) -> None:
        self._calls += 1
        if self.dies_at is not None and self._calls > self.dies_at:
            raise Unreachable("no power")

    def fail(self, chance: random.Random) -> list[str]:
        """Lose power, and come back: of what was not durable, some is gone, some damaged and some there."""
        lost = []
        for key in sorted(self.soon):
            kind = chance.choice(["whole", "gone", "empty", "zeros", "short"])
            data = self.objects[key]
            if kind == "gone":
                del self.objects[key]
            elif kind != "whole":
                self.objects[key] = {"empty": b"", "zeros": bytes(len(data)), "short": data[:-1]}[kind]
            lost += [key] if kind != "whole" else []
        self.soon.clear()
        self.dies_at = None
        return lost


@pytest.fixture
def one(tmp_path: Path) -> Experiment:
    made = machine(tmp_path / "one")
    write(made, CHECKPOINT, content(PART * PARTS - 7, 1))
    write(made, "reports/r.json", b"{}")
    return made


@pytest.mark.parametrize("seed", range(12))
def test_a_power_failure_costs_what_was_not_durable_and_no_more(one: Experiment, seed: int) -> None:
    chance = random.Random(seed)
    disk = Disk()
    disk.dies_at = chance.randrange(2, PARTS)
    with pytest.raises(Unreachable):
        push(one, disk)
    arrived = {key for key in disk.objects if f"{CHECKPOINT}.parts/" in key}
    lost = disk.fail(chance)
    before = disk.puts.copy()
    push(one, disk)
    again = {key for key in arrived if disk.puts[key] > before[key]}
    assert again == arrived & set(lost)
    assert restored(disk, complete_state(disk))[CHECKPOINT] == content(PART * PARTS - 7, 1)
    assert not verify(disk, complete_state(disk)).faults


def test_a_killed_push_sends_nothing_again(one: Experiment) -> None:
    """What a process has put stays when it is killed: a new one makes it durable."""
    disk = Disk()
    disk.dies_at = PARTS // 2
    with pytest.raises(Unreachable):
        push(one, disk)
    assert disk.soon
    disk.dies_at, before = None, disk.puts.copy()
    push(one, disk)
    assert not disk.soon
    assert all(count == before[key] for key, count in disk.puts.items() if before[key] and ".parts/" in key)


@pytest.mark.parametrize("fault", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_late_publishes_nothing(
    tmp_path: Path, one: Experiment, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    target = FolderTarget("local", tmp_path / "copy")
    target.limits = Limits(object_bytes=PART, settles=True)
    real = os.fsync

    def fsync(fd: int) -> None:
        if str(Path(f"/proc/self/fd/{fd}").readlink()).endswith(".parts/00003"):
            raise OSError(fault, os.strerror(fault))
        real(fd)

    with monkeypatch.context() as patched, pytest.raises(Refused, match=r"00003 can't be used .*\.$"):
        patched.setattr(os, "fsync", fsync)
        push(one, target)  # type: ignore[arg-type]
    there = {found.key for found in target.list("")}
    assert not any(key.endswith(INDEX) or key.startswith(manifests.FOLDER) for key in there)
    assert f"{CHECKPOINT}.parts/00003" not in there  # a later fsync of it would tell a lie
    push(one, target)  # type: ignore[arg-type]
    assert restored(target, complete_state(target))[CHECKPOINT] == content(PART * PARTS - 7, 1)


def test_what_wraps_a_target_passes_it_on(tmp_path: Path) -> None:
    disk = Disk()
    below: Target = Under(disk, "a/")
    assert isinstance(below, Settling)
    put_soon(below, "x", b"1")
    assert disk.soon == {"a/x"}
    settle(below, ["x"])
    assert not disk.soon
    put_soon(Under(MemoryTarget(), "a/"), "x", b"1")
    folder = FolderTarget("local", tmp_path / "copy")
    folder.put_soon("b/y", b"2")
    folder.settle(["b/y", "b/gone", "gone/z"])
    assert folder.get("b/y") == b"2"
