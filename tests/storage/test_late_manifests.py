"""A manifest that lands when its machine is long dead: it counts if nobody has published since, and never else."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import gc, turn
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.manifest import Manifest
from bitnet_core.storage.push import Conflict
from bitnet_core.storage.target import Account, Found, Limits, Target, Unreachable
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import complete_state, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, pull, push, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")


class Held:
    """A target whose next manifest is on its way for a long time; the machine that put it got no answer.

    If it `dies`, it does nothing more.
    """

    def __init__(self, target: Target, *, dies: bool) -> None:
        self.name, self.place, self.limits = target.name, target.place, target.limits
        self._target = target
        self._dies = dies
        self._held: tuple[str, bytes] | None = None

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        self._look()
        if self._held is None and key.startswith(manifests.FOLDER):
            self._held = (key, data)
            raise Unreachable("no answer")
        self._target.put(key, data, only_if_absent=only_if_absent)

    def land(self) -> str:
        """Let it arrive. If it has the number of the newest one, it is one that would count before that."""
        assert self._held is not None
        key, data = self._held
        first = next(iter(manifests.keys(self._target)))
        made = msgspec.json.decode(data, type=Manifest)
        while manifests.counter_of(key) == manifests.counter_of(first) and key > first:
            made = msgspec.structs.replace(made, created=made.created + 1)
            key, data = manifests.key_of(made), made.encode()
        self._target.put(key, data, only_if_absent=True)
        return key

    def get(self, key: str) -> bytes:
        self._look()
        return self._target.get(key)

    def list(self, prefix: str) -> Iterator[Found]:
        self._look()
        return self._target.list(prefix)

    def delete(self, key: str) -> None:
        self._look()
        self._target.delete(key)

    def check(self) -> Account:
        return self._target.check()

    def _look(self) -> None:
        if self._held and self._dies:
            raise Unreachable("dead")


class SmallFolder(FolderTarget):
    limits = replace(FolderTarget.limits, object_bytes=SMALL.object_bytes)


@pytest.fixture(params=[MemoryTarget, SmallFolder])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryTarget:
    made: Callable[..., Target] = request.param
    found = made(Limits(object_bytes=4000)) if made is MemoryTarget else made("local", tmp_path / "copy")
    return cast("MemoryTarget", found)


@pytest.fixture
def machines(tmp_path: Path, target: MemoryTarget) -> list[Experiment]:
    """Three that have the same state."""
    one, *others = [machine(tmp_path / name) for name in ("one", "two", "three")]
    write(one, "reports/r.json", b"of all")
    push(one, target)
    for other in others:
        pull(other, target)
    return [one, *others]


def cut_off(one: Experiment, target: MemoryTarget, *, dies: bool) -> Held:
    held = Held(target, dies=dies)
    with pytest.raises(Unreachable):
        push(one, cast("MemoryTarget", held))
    return held


@pytest.mark.parametrize("dies", [True, False])
def test_it_does_not_count_where_another_machine_has_published_since(
    machines: list[Experiment], target: MemoryTarget, *, dies: bool
) -> None:
    one, two, _ = machines
    write(one, "reports/one.json", b"of one")
    held = cut_off(one, target, dies=dies)
    write(two, "reports/r.json", b"of two")
    done = push(two, target)
    assert turn.KEY not in {found.key for found in target.list("")}
    late = held.land()
    assert complete_state(target).key == done.key
    write(two, "reports/again.json", b"{}")
    push(two, target)
    assert {"reports/r.json", "reports/again.json"} <= stored(target).keys()
    with pytest.raises(Conflict, match="another machine"):
        push(one, target)
    pull(one, target)
    push(one, target)
    assert stored(target).keys() >= {"reports/one.json", "reports/r.json", "reports/again.json"}
    assert verify(target, newest(target)).faults == []
    gc.remove_unneeded(target, gc.find(target, -1.0), "0badcafe")
    left = manifests.keys(target)
    assert late not in left
    assert left == [(state := complete_state(target)).key, state.manifest.parent]


def test_it_counts_where_nobody_has_published_since(machines: list[Experiment], target: MemoryTarget) -> None:
    one, two, _ = machines
    write(one, "reports/one.json", b"of one")
    held = cut_off(one, target, dies=True)
    late = held.land()
    assert complete_state(target).key == late
    write(two, "reports/two.json", b"of two")
    with pytest.raises(Conflict, match="another machine"):
        push(two, target)
    write(one, "reports/again.json", b"{}")
    push(one, target)
    pull(two, target)
    push(two, target)
    assert stored(target).keys() >= {"reports/one.json", "reports/again.json", "reports/two.json"}


def test_garbage_collection_in_between_does_not_forget_it(machines: list[Experiment], target: MemoryTarget) -> None:
    one, two, _ = machines
    write(one, "reports/r.json", b"of one")
    held = cut_off(one, target, dies=True)
    gc.remove_unneeded(target, gc.find(target), "0badcafe")
    write(two, "reports/r.json", b"of two")
    done = push(two, target)
    held.land()
    assert complete_state(target).key == done.key
    push(two, target)


def test_of_two_that_land_late_none_counts(machines: list[Experiment], target: MemoryTarget) -> None:
    held = []
    for one in machines[:2]:
        write(one, "reports/r.json", str(one.root).encode())
        held.append(cut_off(one, target, dies=True))
    three = machines[2]
    write(three, "reports/r.json", b"of three")
    done = push(three, target)
    for one in held:
        one.land()
        assert complete_state(target).key == done.key
    push(three, target)
    assert stored(target)["reports/r.json"] == b"of three"


@pytest.mark.parametrize("holder", [b"", b"\xff" * 50, b"ab-cd-999999999999", b"ab-cd-", b"0badcafe-12345678"])
def test_what_another_program_wrote_where_turns_are_kept_harms_nothing(
    machines: list[Experiment], target: MemoryTarget, holder: bytes
) -> None:
    target.put(turn.KEY, holder)
    write(machines[0], "reports/r.json", b"new")
    assert push(machines[0], target).counter < 5
    assert turn.KEY not in {found.key for found in target.list("")}
