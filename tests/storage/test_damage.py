"""What is damaged is named, never pulled, and mended; what nobody needs goes, and not before its time."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import gc, turn
from bitnet_core.storage.layout import part_key
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push
from bitnet_core.storage.state import opened as opened_state
from bitnet_core.storage.target import Corrupt, Limits, Target, Unreachable
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest, repair, verify
from tests.storage.experiments import CHECKPOINT, complete_state, content, fill, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.stand import Running, Stand, all_stands, opened, webdav

DAMAGED = ["local", "s3 on seaweedfs", "firebase"]
COLLECTED = ["local", "s3 on seaweedfs", webdav(), "firebase", "mongodb"]
SIZES = {CHECKPOINT: 250_001, "reports/r.json": 1000}
MACHINES_TIME = 3600.0
"""More than any two clocks of this machine differ."""


@pytest.fixture(scope="module", params=COLLECTED)
def stand(request: pytest.FixtureRequest) -> Stand:
    (chosen,) = [one for one in all_stands() if one.name == request.param]
    if why := chosen.missing():
        pytest.skip(f"{chosen.name}: {why}")
    return chosen


@pytest.fixture
def place(running: Running, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Target]:
    """A place of its own for each test, where files are in parts although they are small."""
    with opened(running, tmp_path) as target:
        found = Under(target, f"place-{abs(hash(request.node.name)) % 10**8}/")
        found.limits = replace(found.limits, object_bytes=100_000)
        yield found


def push(experiment: Experiment, place: Target) -> None:
    with opened_state(experiment.root, place.place) as state:
        Push(experiment, place, state).run()


def pull(experiment: Experiment, place: Target) -> None:
    published = complete_state(place)
    with opened_state(experiment.root, place.place) as state:
        Pull(experiment, place, state, published).run(published.manifest.files)


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("how", ["flipped", "missing", "gone"])
def test_every_damaged_object_is_named_refused_and_mended(
    stand: Stand, place: Target, tmp_path: Path, how: str
) -> None:
    if stand.name not in DAMAGED:
        pytest.skip("one of these servers is enough for it")
    one = machine(tmp_path / "one")
    contents = fill(one, SIZES)
    push(one, place)
    state = newest(place)
    objects = [key for entry in state.manifest.files for key, _ in entry.objects()]
    assert len(objects) == 6
    for number, key in enumerate(objects):
        whole = place.get(key)
        if how == "gone":
            place.delete(key)
        else:
            place.put(key, flipped(whole) if how == "flipped" else whole[:-1])
        report = verify(place, state)
        assert [(fault.key, fault.what) for fault in report.faults] == [
            (key, "missing" if how == "gone" else "changed")
        ]
        two = machine(tmp_path / f"two{number}")
        with pytest.raises(BitnetError):
            pull(two, place)
        for name, data in contents.items():
            path = two.root / name
            assert not path.exists() or path.read_bytes() == data, name
        repair(one, place, state, report)
        assert place.get(key) == whole
        assert verify(place, state).faults == []
        pull(two, place)
        assert all((two.root / name).read_bytes() == data for name, data in contents.items())


def test_garbage_goes_after_its_time_and_nothing_else(place: Target, running: Running, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    fill(one, SIZES)
    push(one, place)
    needed = {found.key for found in place.list("")}
    garbage = {
        part_key("data/never_finished.parquet", 7),
        part_key(CHECKPOINT, 9),
        "reports/r.json.revisions/000009-0badcafe",
        f"{CHECKPOINT}.revisions/000009-0badcafe.parts/index.json",
        f"{part_key(CHECKPOINT, 3)}.0badcafe.partial",
        "_temp/1700000000-0badcafe",
    }
    for key in garbage:
        place.put(key, b"left")
    found = gc.find(place, MACHINES_TIME)
    assert {one.key for one in found.young} == garbage
    assert gc.remove(place, found) == 0
    assert {one.key for one in place.list("")} == needed | garbage
    found = gc.find(place, -MACHINES_TIME, look_only=True)
    assert {one.key for one in found.old} == garbage
    assert {one.key for one in place.list("")} == needed | garbage
    gc.remove(place, gc.find(place, -MACHINES_TIME))
    assert {one.key for one in place.list("")} == needed
    assert verify(place, newest(place)).faults == []
    with opened(running, tmp_path) as whole:
        whole.put("_temp/1700000000-0badcafe", b"left")
        assert "_temp/1700000000-0badcafe" in {one.key for one in gc.find_temporary(whole, MACHINES_TIME).young}
        gc.remove(whole, gc.find_temporary(whole, -MACHINES_TIME))
        assert not list(whole.list("_temp/"))


def test_what_is_needed_since_it_was_listed_is_no_garbage(tmp_path: Path) -> None:
    target = MemoryTarget(Limits(object_bytes=100_000))
    one = machine(tmp_path / "one")
    fill(one, SIZES)
    push(one, target)
    for key in ("reports/new.json", "reports/never.json", turn.KEY):
        target.put(key, b"left by a push that was cut")
    found = gc.find(target, -1.0)
    assert {one.key for one in found.old} == {"reports/new.json", "reports/never.json", turn.KEY}
    target.delete(turn.KEY)
    write(one, "reports/new.json", b"left by a push that was cut")
    push(one, target)
    assert gc.remove_unneeded(target, found, "me") == len(b"left by a push that was cut")
    assert [one.key for one in found.old] == ["reports/never.json"]
    assert "reports/never.json" not in target.objects and turn.KEY not in target.objects
    assert verify(target, newest(target)).faults == []


# -- clocks, and what a target says of its own hashes ------------------------------------------------------------


@pytest.mark.parametrize("years", [-30, 30])
def test_age_is_by_the_targets_clock(tmp_path: Path, years: int) -> None:
    """An hour is an hour, however wrong the clock of the machine or of the target is."""
    target = MemoryTarget(Limits(object_bytes=4000))
    moment = 1.8e9 + years * 365 * 86400
    target.now = lambda: moment
    one = machine(tmp_path / "one")
    fill(one, {"reports/r.json": 1000})
    push(one, target)
    for key in ("reports/x.json", "_temp/1700000000-0badcafe", f"_temp/{moment:.0f}-0badcafe"):
        target.put(key, b"left")
    moment += 3600
    target.put("reports/y.json", b"left")
    assert gc.find(target, 7200).old == []
    assert gc.find_temporary(target, 7200).old == []
    assert {one.key for one in gc.find(target, 3000).old} >= {"reports/x.json"}
    assert "reports/y.json" not in {one.key for one in gc.find(target, 3000).old}
    assert len(gc.find_temporary(target, 3000).old) == 2


def test_a_wrong_clock_here_makes_nothing_old(
    place: Target, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one machine has written is not old for another one whose clock is years ahead."""
    one = machine(tmp_path / "one")
    fill(one, SIZES)
    push(one, place)
    place.put("reports/x.json", b"left")
    if running.settings["STORAGE_BACKEND"] in ("s3", "firebase"):
        pytest.skip("its server refuses signatures or tokens of another time")
    with monkeypatch.context() as patched:
        patched.setattr("time.time", lambda: 2.4e9)
        with opened(running, tmp_path) as target:
            elsewhere = Under(target, place.place.rstrip("/").rpartition("/")[2] + "/")
            found = gc.find(elsewhere, MACHINES_TIME)
    assert found.old == []
    assert {one.key for one in found.young} == {"reports/x.json"}


class Checking(MemoryTarget):
    """A target that keeps hashes itself, as MongoDB does."""

    damaged: str = ""

    def get(self, key: str) -> bytes:
        data = super().get(key)
        if key == self.damaged:
            raise Corrupt(f"{key} is damaged.")
        return data


@pytest.mark.parametrize("key", [part_key(CHECKPOINT, 1), f"{CHECKPOINT}.parts/index.json", "reports/r.json"])
def test_what_a_target_knows_to_be_damaged_is_reported_and_mended(tmp_path: Path, key: str) -> None:
    target = Checking(Limits(object_bytes=100_000))
    one = machine(tmp_path / "one")
    fill(one, SIZES)
    push(one, target)
    state = newest(target)
    target.damaged = key
    report = verify(target, state)
    assert [(fault.key, fault.what) for fault in report.faults] == [(key, "changed")]
    with pytest.raises(BitnetError, match="damaged"):
        pull(machine(tmp_path / "two"), target)
    before = target.puts[key]
    repair(one, target, state, report)
    assert target.puts[key] == before + 1


def test_a_damaged_manifest_is_passed_over(tmp_path: Path) -> None:
    target = Checking(Limits(object_bytes=100_000))
    one = machine(tmp_path / "one")
    fill(one, SIZES)
    push(one, target)
    older = newest(target).key
    fill(one, SIZES, seed=1)
    push(one, target)
    target.damaged = newest(target).key
    assert newest(target).key == older


@pytest.mark.parametrize("key", [part_key(CHECKPOINT, 1), f"{CHECKPOINT}.parts/index.json", "reports/r.json"])
def test_a_target_that_is_cut_off_has_nothing_damaged(tmp_path: Path, key: str) -> None:
    target = MemoryTarget(Limits(object_bytes=100_000))
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    fill(one, SIZES)
    push(one, target)
    state = newest(target)

    def cut(call: str, asked: str) -> None:
        if call == "get" and asked == key:
            raise Unreachable("The connection was cut.")

    target.before = cut
    with pytest.raises(Unreachable):
        verify(target, state)
    with pytest.raises(Unreachable):
        pull(two, target)


def test_a_damaged_orphan_is_not_taken_for_the_part(tmp_path: Path) -> None:
    target = Checking(Limits(object_bytes=100_000))
    one = machine(tmp_path / "one")
    contents = fill(one, SIZES)
    target.put(part_key(CHECKPOINT, 1), contents[CHECKPOINT][100_000:200_000])
    target.damaged = part_key(CHECKPOINT, 1)
    push(one, target)
    assert part_key(CHECKPOINT, 1) not in newest(target).manifest.objects()
    assert verify(target, newest(target)).faults == []


def test_a_failed_pull_writes_into_no_other_file(tmp_path: Path) -> None:
    """A part that comes after another one has failed must not be written: its file is closed by then."""
    import threading

    target = MemoryTarget(Limits(object_bytes=100_000))
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    fill(one, SIZES)
    push(one, target)
    begun, failed, late = threading.Event(), threading.Event(), threading.Event()

    def fail_then_be_late(call: str, key: str) -> None:
        if call == "get" and key == part_key(CHECKPOINT, 0):
            assert begun.wait(60)  # what has not begun when a part fails is not brought at all
            raise Unreachable("The connection was cut.")
        if call == "get" and key == part_key(CHECKPOINT, 1):
            begun.set()
            failed.wait(60)
            late.set()

    target.before = fail_then_be_late
    with pytest.raises(Unreachable):
        pull(two, target)
    opened_next = []
    with contextlib.ExitStack() as stack:
        for number in range(20):
            path = tmp_path / f"another{number}"
            path.write_bytes(content(10))
            opened_next.append(path)
            stack.enter_context(path.open("r+b"))
        failed.set()
        assert late.wait(60)
        threading.Event().wait(0.2)
    assert all(path.read_bytes() == content(10) for path in opened_next)
