"""A manifest that can't be read: only who stored it goes on from it, and nobody's work goes."""

from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.push import Conflict
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, pull, push, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


def damage(target: MemoryTarget) -> str:
    """Flip a byte of the newest manifest."""
    key = manifests.keys(target)[0]
    data = target.objects[key]
    target.objects[key] = data[:40] + bytes([data[40] ^ 1]) + data[41:]
    return key


@pytest.mark.parametrize("options", [{}, {"repair": True}, {"force": True}, {"force": True, "repair": True}])
def test_another_experiment_never_takes_the_place_of_one_that_cannot_be_read(
    tmp_path: Path, target: MemoryTarget, options: dict[str, bool]
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "reports/r.json", b"work")
    push(one, target)
    damage(target)
    before = dict(target.objects)
    with pytest.raises(Conflict, match="STORAGE_NAME"):
        push(two, target, **options)
    assert target.objects == before
    push(one, target, repair=True)
    assert stored(target)["reports/r.json"] == b"work"
    assert len(manifests.keys(target)) == 1


@pytest.mark.parametrize("bytes_are_flipped", [True, False])
def test_who_is_behind_repairs_nothing_without_force(
    tmp_path: Path, target: MemoryTarget, *, bytes_are_flipped: bool
) -> None:
    """The newest state may be whole, but for the bytes that came back."""
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "reports/r.json", b"v1")
    push(one, target)
    pull(two, target)
    write(one, "reports/r.json", b"hours of work")
    write(one, "reports/new.json", b"new")
    push(one, target)
    if bytes_are_flipped:
        damage(target)
    else:
        bad_reads(target, 4)
    before = dict(target.objects)
    write(two, "reports/mine.json", b"mine")
    with pytest.raises(Conflict, match=r"push --force`|pull"):
        push(two, target, repair=True)
    assert target.objects == before
    push(one, target, repair=True)
    assert stored(target)["reports/r.json"] == b"hours of work"


def bad_reads(target: MemoryTarget, count: int) -> None:
    """The next reads of the newest manifest give other bytes."""
    key, get = manifests.keys(target)[0], target.get
    left = count

    def flaky(asked: str) -> bytes:
        nonlocal left
        data = get(asked)
        if asked == key and left:
            left -= 1
            return data[:-3] + b"x" + data[-2:]
        return data

    target.get = flaky  # type: ignore[method-assign]


def test_a_bad_read_is_no_damage(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    push(one, target)
    write(one, "reports/r.json", b"1")
    bad_reads(target, 2)
    assert push(one, target).counter == 2


def test_what_cannot_be_read_is_said_and_repaired_from_here(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    for version in (b"1", b"2"):
        write(one, "reports/r.json", version)
        push(one, target)
    damaged = damage(target)
    with pytest.raises(BitnetError, match="push --verify"):
        push(one, target)
    assert damaged in target.objects
    assert push(one, target, repair=True).counter == 3
    assert damaged not in target.objects
    assert verify(target, newest(target)).faults == []
    assert stored(target)["reports/r.json"] == b"2"
    assert push(one, target, repair=True).counter == 3


def test_force_goes_on_from_an_older_state_of_the_same_experiment(tmp_path: Path, target: MemoryTarget) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "reports/r.json", b"v1")
    push(one, target)
    pull(two, target)
    write(one, "reports/r.json", b"v2")
    push(one, target)
    damage(target)
    write(two, "reports/mine.json", b"mine")
    assert push(two, target, force=True).counter == 3
    assert stored(target)["reports/mine.json"] == b"mine"
