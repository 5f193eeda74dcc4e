"""A push that was cut, and the next one: what seemed to have arrived may be gone, another's, or still under way."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from bitnet_core.storage import gc
from bitnet_core.storage.push import Push
from bitnet_core.storage.target import AlreadyThere, Limits, Refused, Unreachable
from bitnet_core.storage.turn import KEY
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import CHECKPOINT, content, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, pull, push, save, state_of, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")
SIZES = [pytest.param(300, id="one object"), pytest.param(10_000, id="parts")]


class Holding(MemoryTarget):
    """A proxy holds puts of some content back, as long as a test wants, while their sender has given up."""

    def __init__(self) -> None:
        super().__init__(SMALL)
        self.held_back = b""
        self.holds_manifests = False
        self.held: list[tuple[str, bytes, bool]] = []

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        if (self.held_back and data in self.held_back) or (self.holds_manifests and key.startswith("manifests/")):
            self.held.append((key, data, only_if_absent))
            raise Unreachable("no answer")
        super().put(key, data, only_if_absent=only_if_absent)

    def release(self) -> int:
        for key, data, only_if_absent in self.held:
            try:
                super().put(key, data, only_if_absent=only_if_absent)
            except AlreadyThere:
                continue
        return len(self.held)


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_a_request_that_ends_late_changes_nothing_that_was_published_since(
    tmp_path: Path, size: int, *, is_stored: bool
) -> None:
    target = Holding()
    one = machine(tmp_path / "one")
    if is_stored:
        write(one, CHECKPOINT, content(size, 1))
    push(one, target)
    target.held_back = content(size, 2)
    write(one, CHECKPOINT, content(size, 2))
    with pytest.raises(Unreachable):
        push(one, target)
    target.held_back = b""
    write(one, CHECKPOINT, content(size, 3))
    push(one, target)
    assert target.release()
    assert verify(target, newest(target)).faults == []
    assert stored(target)[CHECKPOINT] == content(size, 3)


@pytest.mark.parametrize("seed", range(6))
def test_a_manifest_that_arrives_late_is_not_the_state(tmp_path: Path, seed: int) -> None:
    target = Holding()
    one = machine(tmp_path / "one")
    push(one, target)
    target.holds_manifests = True
    write(one, "reports/r.json", b"older %d" % seed)
    with pytest.raises(Unreachable):
        push(one, target)
    target.holds_manifests = False
    write(one, "reports/r.json", b"newer %d" % seed)
    push(one, target)
    assert target.release() == 1
    assert stored(target)["reports/r.json"] == b"newer %d" % seed
    write(one, "reports/r.json", b"newest %d" % seed)
    push(one, target)
    assert stored(target)["reports/r.json"] == b"newest %d" % seed
    assert verify(target, newest(target)).faults == []


def cut_at(target: MemoryTarget, *starts: str) -> None:
    def cut(call: str, key: str) -> None:
        if call == "put" and (key.startswith(starts) or key.endswith(starts)):
            raise Unreachable("cut")

    target.before = cut


def cut(machine_: object, target: MemoryTarget, at: str) -> None:
    cut_at(target, at)
    with pytest.raises(Unreachable):
        push(machine_, target)  # type: ignore[arg-type]
    target.before = lambda _call, _key: None


@pytest.mark.parametrize("at", ["manifests/", KEY, "index.json"])
@pytest.mark.parametrize("size", SIZES)
def test_what_another_machine_has_put_since_is_not_taken_for_ours(tmp_path: Path, size: int, at: str) -> None:
    if at == "index.json" and size < 1000:
        pytest.skip("it has no index")
    target = MemoryTarget(SMALL)
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    push(one, target)
    pull(two, target)
    write(one, CHECKPOINT, content(size, 1))
    write(two, CHECKPOINT, content(size, 2))
    cut(one, target, at)
    gc.remove_unneeded(target, gc.find(target, -1.0), "0badcafe")
    cut(two, target, at)
    push(one, target)
    assert verify(target, newest(target)).faults == []
    assert stored(target)[CHECKPOINT] == content(size, 1)


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("lost", ["all", "first"])
@pytest.mark.parametrize("size", SIZES)
def test_what_is_gone_since_a_push_was_cut_is_sent_again(
    tmp_path: Path, size: int, lost: str, *, is_stored: bool
) -> None:
    target = MemoryTarget(SMALL)
    one = machine(tmp_path / "one")
    if is_stored:
        write(one, CHECKPOINT, content(size, 1))
    write(one, "reports/other.json", b"{}")
    push(one, target)
    before = set(target.objects)
    write(one, CHECKPOINT, content(size, 2))
    cut(one, target, "manifests/")
    for key in sorted(set(target.objects) - before)[: None if lost == "all" else 1]:
        target.delete(key)
    push(one, target)
    assert verify(target, newest(target)).faults == []
    assert stored(target)[CHECKPOINT] == content(size, 2)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_gone_before_the_manifest_is_sent_again_at_once(tmp_path: Path, size: int) -> None:
    target = MemoryTarget(SMALL)
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(size))

    def lose(call: str, key: str) -> None:
        if call == "put" and key == KEY:
            target.before = lambda _call, _key: None
            del target.objects[next(key for key in target.objects if key.startswith(CHECKPOINT))]

    target.before = lose
    done = push(one, target)
    assert done.counter == 1
    assert verify(target, newest(target)).faults == []
    assert stored(target)[CHECKPOINT] == content(size)


def test_a_lost_object_of_a_journal_that_looks_changed_is_sent_again(tmp_path: Path) -> None:
    """Only when it is sent it shows that it is what the newest state has, and is gone there."""
    target = MemoryTarget(Limits(object_bytes=100_000))
    one = machine(tmp_path / "one")
    path = one.root / "data.journal" / "journal.sqlite"
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("pragma journal_mode=wal")
        db.execute("create table answers (body text)")
        push(one, target)
        target.delete(newest(target).manifest.by_name()["data.journal/journal.sqlite"].key)
        os.utime(path)
        write(one, "reports/r.json", b"{}")
        push(one, target)
    assert verify(target, newest(target)).faults == []


@pytest.mark.parametrize("size", SIZES)
def test_what_arrived_is_not_sent_again(tmp_path: Path, size: int) -> None:
    """Also where the newest state is another one by then."""
    target = MemoryTarget(SMALL)
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, CHECKPOINT, content(size, 1))
    push(one, target)
    pull(two, target)
    write(one, CHECKPOINT, content(size, 2))
    cut(one, target, "manifests/")
    write(two, "reports/r.json", b"{}")
    push(two, target)
    before = dict(target.puts)
    push(one, target, force=True)
    again = [key for key in target.puts if key.startswith(CHECKPOINT) and target.puts[key] > before.get(key, 0)]
    assert all(key.endswith("index.json") for key in again)
    assert stored(target)[CHECKPOINT] == content(size, 2)


def cut_after(target: MemoryTarget, puts: int) -> None:
    """Refuse every part of a checkpoint after so many."""
    left = [puts]

    def before(call: str, key: str) -> None:
        if call == "put" and key.startswith("checkpoints/") and ".parts/" in key:
            if not left[0]:
                raise Refused("full")
            left[0] -= 1

    target.before = before


def test_what_arrived_of_a_checkpoint_that_was_replaced_since_goes(tmp_path: Path) -> None:
    """What arrived of a file that is still here, and that a push leaves out, stays."""
    one, target = machine(tmp_path / "one"), MemoryTarget(SMALL)
    write(one, "reports/kept.bin", content(9000))
    old = save(one, 10)
    cut_after(target, 2)
    with pytest.raises(Refused):
        push(one, target)
    for path in old:
        path.unlink()
    save(one, 20)
    target.before = lambda _call, _key: None
    with state_of(one) as state:
        Push(one, target, state, choose=lambda files: [file for file in files if "kept" not in file.name]).run()
    assert not [key for key in target.objects if "00000010.pt" in key]
    assert [key for key in target.objects if "kept.bin.parts" in key]
    assert verify(target, newest(target)).faults == []


def test_another_machine_that_counts_on_what_goes_sends_it_again(tmp_path: Path) -> None:
    """Two machines have the same checkpoint; one has sent a part of it, replaces it, and publishes meanwhile."""
    one, two, target = machine(tmp_path / "one"), machine(tmp_path / "two"), MemoryTarget(SMALL)
    push(one, target)
    pull(two, target)
    old = save(one, 10)
    save(two, 10)
    cut_after(target, 2)
    with pytest.raises(Refused):
        push(one, target)
    for path in old:
        path.unlink()
    save(one, 20)
    published = []

    def before(call: str, key: str) -> None:
        if call == "put" and key == KEY and not published:
            published.append(key)
            push(one, target)

    target.before = before
    push(two, target, force=True)
    assert published
    assert verify(target, newest(target)).faults == []
    assert stored(target)["checkpoints/mini_bitnet_step_00000010.pt"] == content(10_000, 10)
