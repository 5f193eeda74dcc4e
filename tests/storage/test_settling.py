"""Objects that are put first and made durable later: what a power failure does between the two never shows."""

import random
import shutil
import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.patient import Patient
from bitnet_core.storage.push import Conflict
from bitnet_core.storage.sender import Sender
from bitnet_core.storage.settler import Settler
from bitnet_core.storage.target import AlreadyThere, Limits, Refused, Target, Unreachable, put_soon
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import CHECKPOINT, content, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import push, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")
SETTLING = Limits(object_bytes=4000, settles=True)
PARTS = f"{CHECKPOINT}.parts/"


class Unplugged(MemoryTarget):
    """Loses, cuts or garbles what is unsettled when its power fails. `faults` are names of what was unsettled."""

    def __init__(self) -> None:
        super().__init__(SETTLING)
        self.unsettled: set[str] = set()
        self.settled_together: list[int] = []
        self.faults: list[str] = []

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        if key.startswith(manifests.FOLDER):
            self._require_settled(manifests.decoded(key, data).manifest.objects(), key)
        if key.endswith(".parts/index.json"):
            folder = key.removesuffix("index.json")
            self._require_settled([one for one in self.objects if one.startswith(folder)], key)
        super().put(key, data, only_if_absent=only_if_absent)
        self.unsettled.discard(key)

    def _require_settled(self, named: Iterable[str], key: str) -> None:
        self.faults += [f"{key} names {one}" for one in named if one in self.unsettled]

    def put_soon(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        super().put(key, data, only_if_absent=only_if_absent)
        self.unsettled.add(key)

    def settle(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        for key in keys:
            self.before("settle", key)
            self.unsettled.discard(key)
        self.settled_together.append(len(keys))

    def lose_power(self, draw: random.Random) -> int:
        """Damage what is unsettled; returns how many objects are not what they were."""
        damaged = 0
        for key in sorted(self.unsettled):
            data = self.objects.pop(key)
            after = draw.choice([data, None, b"", data[: len(data) // 2], bytes(len(data)), content(len(data), 7)])
            if after is not None:
                self.objects[key] = after
            damaged += after != data
        self.unsettled.clear()
        return damaged


def cut_at(target: MemoryTarget, call_number: int) -> None:
    """Let every call from this one on fail that sends or settles something."""
    left = [call_number]

    def before(call: str, key: str) -> None:
        if call in ("put", "settle"):
            left[0] -= 1
            if left[0] < 0:
                raise Unreachable(f"cut at {key}")

    target.before = before


def test_only_what_is_settled_is_ever_named_or_counted_on(tmp_path: Path) -> None:
    """Pushes are cut anywhere, and the power fails; what is known here is kept, or is what it was before the push."""
    draw = random.Random(26)
    cuts = damaged = 0
    for trial in range(7):
        one, target = machine(tmp_path / str(trial)), Unplugged()
        if draw.random() < 0.6:
            push(one, target)
        for round_ in range(3):
            wanted = {
                name: content(draw.randrange(5000, 60_000), draw.randrange(10**6)) for name in (CHECKPOINT, "data/x")
            }
            for name, data in wanted.items():
                write(one, name, data)
            for _ in range(draw.randrange(1, 4)):
                shutil.rmtree(tmp_path / "before", ignore_errors=True)
                if (one.root / ".storage").exists():
                    shutil.copytree(one.root / ".storage", tmp_path / "before")
                cut_at(target, draw.randrange(60))
                try:
                    push(one, target)
                except Unreachable:
                    cuts += 1
                    damaged += target.lose_power(draw)
                    if draw.random() < 0.3 and (tmp_path / "before").exists():
                        shutil.rmtree(one.root / ".storage")
                        shutil.copytree(tmp_path / "before", one.root / ".storage")
                target.before = lambda _call, _key: None
                if manifests.keys(target):
                    assert verify(target, newest(target)).faults == []
            push(one, target)
            target.lose_power(draw)
            assert target.faults == []
            assert verify(target, newest(target)).faults == []
            assert wanted.items() <= stored(target).items(), (trial, round_)
    assert cuts > 10
    assert damaged > 10


def cut_before_settling(one: Experiment, target: Unplugged, last: str = "") -> list[str]:
    """Push until a part whose key ends so is to be settled; returns what is unsettled."""

    def fail(call: str, key: str) -> None:
        if call == "settle" and key.endswith(last):
            raise Unreachable("cut")

    target.before = fail
    with pytest.raises(Unreachable):
        push(one, target)
    target.before = lambda _call, _key: None
    return sorted(target.unsettled)


def test_a_killed_push_sends_nothing_again(tmp_path: Path) -> None:
    """What a process has put stays when it is killed: a new one makes it durable."""
    one, target = machine(tmp_path / "one"), Unplugged()
    write(one, CHECKPOINT, content(40_000))
    assert cut_before_settling(one, target, "/00003")
    before = target.puts.copy()
    push(one, target)
    assert not target.unsettled
    assert all(count == before[key] for key, count in target.puts.items() if before[key] and "/0" in key)
    assert stored(target)[CHECKPOINT] == content(40_000)


def test_of_a_revision_only_the_damaged_parts_are_sent_again(tmp_path: Path) -> None:
    """Only this machine sends it. Nothing had been settled."""
    one, target = machine(tmp_path / "one"), Unplugged()
    write(one, CHECKPOINT, content(40_000, 1))
    push(one, target)
    write(one, CHECKPOINT, content(40_000, 2))
    unsettled = cut_before_settling(one, target)
    before = target.puts.copy()
    target.objects[unsettled[-1]] = bytes(len(target.objects[unsettled[-1]]))
    push(one, target)
    again = [key for key in target.puts if "/0" in key and before[key] and target.puts[key] > before[key]]
    assert again == unsettled[-1:]
    assert len([key for key in target.objects if key.startswith(f"{CHECKPOINT}.revisions/")]) == 11
    assert stored(target)[CHECKPOINT] == content(40_000, 2)


@pytest.mark.parametrize("moment", ["list", "put"])
def test_what_another_machine_has_put_since_the_power_failed_is_not_replaced(tmp_path: Path, moment: str) -> None:
    """Neither had published, so their parts lie under the same name. What the first one had put is gone."""
    one, two, target = machine(tmp_path / "one"), machine(tmp_path / "two"), Unplugged()
    target.limits = replace(SETTLING, workers=1)
    write(one, CHECKPOINT, content(20_000, 1))
    write(two, CHECKPOINT, content(20_000, 2))
    for key in cut_before_settling(one, target):
        del target.objects[key]
    target.unsettled.clear()

    def publish(call: str, key: str) -> None:
        if call == moment and key.startswith(PARTS):
            target.before = lambda _call, _key: None
            push(two, target)

    target.before = publish
    with pytest.raises(Conflict):
        push(one, target)
    assert verify(target, newest(target)).faults == []
    assert stored(target)[CHECKPOINT] == content(20_000, 2)


def test_what_waits_is_settled_together_and_no_more_than_some_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    target, may_settle, told = Unplugged(), threading.Event(), []

    def wait(call: str, _key: str) -> None:
        if call == "settle":
            may_settle.wait(60)

    target.before = wait
    with Sender(SETTLING) as sender:
        settler, handle_one = Settler(target, sender), sender.handle_one

        def handle() -> None:
            may_settle.set()
            handle_one()

        monkeypatch.setattr(sender, "handle_one", handle)
        for number in range(40):
            settler.make_room()
            assert may_settle.is_set() == (number >= 24)  # 8 are being settled, and 16 wait
            put_soon(target, str(number), b"x")
            settler.settle(str(number), lambda number=number: told.append(number))
            assert len(target.unsettled) <= 24 or may_settle.is_set()
        settler.drain()
    assert target.settled_together[:2] == [8, 16]
    assert sum(target.settled_together) == 40
    assert told == list(range(40))


def test_parts_that_somebody_else_put_are_settled_too(tmp_path: Path) -> None:
    """Two machines have the same file; the other one was killed before it settled anything."""
    one, two, target = machine(tmp_path / "one"), machine(tmp_path / "two"), Unplugged()
    for each in (one, two):
        write(each, CHECKPOINT, content(40_000, 1))

    def fail(call: str, _key: str) -> None:
        if call == "settle":
            raise Unreachable("cut")

    target.before = fail
    with pytest.raises(Unreachable):
        push(two, target)
    assert target.unsettled
    target.before = lambda _call, _key: None
    push(one, target)
    assert not target.unsettled
    assert target.faults == []


def test_a_target_that_does_not_settle_gets_every_part_by_put(tmp_path: Path) -> None:
    one, target = machine(tmp_path / "one"), MemoryTarget(replace(SETTLING, settles=False))
    write(one, CHECKPOINT, content(40_000))
    push(one, target)
    assert [count for key, count in target.puts.items() if key.startswith(PARTS)] == [1] * 11
    assert stored(target)[CHECKPOINT] == content(40_000)


def test_a_settled_object_is_told_after_it_is_settled_and_a_failure_is_raised() -> None:
    target, told = Unplugged(), []
    with Sender(SETTLING) as sender:
        settler = Settler(target, sender)
        for number in range(50):
            put_soon(target, str(number), b"x")
            settler.settle(str(number), lambda number=number: told.append(str(number) not in target.unsettled))
            settler.make_room()
        settler.drain()
        assert told == [True] * 50
        target.before = lambda _call, _key: (_ for _ in ()).throw(Refused("full"))
        settler.settle("0", lambda: told.append(False))
        with pytest.raises(Refused, match="full"):
            settler.drain()
    assert told == [True] * 50


@pytest.mark.parametrize("wrap", [lambda it: it, Patient, lambda it: Under(Patient(it), "exp/")])
def test_a_condition_holds_for_what_is_unsettled(wrap: Callable[[Target], Target]) -> None:
    inner = Unplugged()
    target = wrap(inner)
    put_soon(target, "a", b"1", only_if_absent=True)
    assert target.get("a") == b"1"
    assert len(inner.unsettled) == 1
    with pytest.raises(AlreadyThere):
        put_soon(target, "a", b"2", only_if_absent=True)
    put_soon(target, "a", b"3")
    assert target.get("a") == b"3"
