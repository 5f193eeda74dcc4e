"""Files that change, are cut, or are in use while they are pushed: each part is sent once, and none is mixed."""

import sqlite3
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.storage.layout import part_key
from bitnet_core.storage.push import Push
from bitnet_core.storage.target import Limits, Unreachable
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import CHECKPOINT, content, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, push, state_of, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


def test_a_cut_push_goes_on_with_the_parts_that_are_missing(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(40_000))

    def fail_at_seven(call: str, key: str) -> None:
        if call == "put" and key == part_key(CHECKPOINT, 7):
            raise Unreachable("cut")

    target.before = fail_at_seven
    with pytest.raises(Unreachable):
        push(one, target)
    assert not any(key.endswith("index.json") for key in target.objects)
    target.before = lambda _call, _key: None
    push(one, target)
    sent_again = [key for key, count in target.puts.items() if count > 1]
    assert len(sent_again) <= 1
    assert stored(target)[CHECKPOINT] == content(40_000)


def test_parts_that_another_content_left_are_not_taken(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(40_000, 1))
    target.put(part_key(CHECKPOINT, 3), content(4000, 99))
    push(one, target)
    assert target.objects[part_key(CHECKPOINT, 3)] == content(4000, 99)  # another writer's, and left alone
    assert stored(target)[CHECKPOINT] == content(40_000, 1)


def test_a_file_that_changed_after_a_cut_push_is_sent_as_it_is_now(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(40_000, 1))

    def fail_at_seven(call: str, key: str) -> None:
        if call == "put" and key == part_key(CHECKPOINT, 7):
            raise Unreachable("cut")

    target.before = fail_at_seven
    with pytest.raises(Unreachable):
        push(one, target)
    target.before = lambda _call, _key: None
    write(one, CHECKPOINT, content(40_000, 2))
    push(one, target)
    assert stored(target)[CHECKPOINT] == content(40_000, 2)


def test_a_file_that_changes_while_it_is_sent_is_sent_again(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    path = write(one, CHECKPOINT, content(40_000, 1))
    changed = []

    def change_once(call: str, key: str) -> None:
        if call == "put" and key == part_key(CHECKPOINT, 2) and not changed:
            changed.append(key)
            path.write_bytes(content(36_000, 2))

    target.after = change_once
    push(one, target)
    assert stored(target)[CHECKPOINT] == content(36_000, 2)


def test_a_file_that_never_rests_is_left_out_and_said(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    path = write(one, CHECKPOINT, content(100_000, 1))
    turn = iter(range(10**6))
    target.after = lambda _, key: path.write_bytes(content(100_000, next(turn))) if ".parts/" in key else None
    done = push(one, target)
    assert any("keeps changing" in sentence for sentence in done.left)
    assert CHECKPOINT not in stored(target)
    assert verify(target, newest(target)).faults == []


def test_a_log_that_grows_is_stored_as_far_as_it_was(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    path = write(one, "logs/train-1/events.jsonl", b"line\n" * 700)

    def grow(call: str, key: str) -> None:
        if "events.jsonl" in key:
            with path.open("ab") as out:
                out.write(b"more\n")

    target.after = grow
    push(one, target)
    assert stored(target)["logs/train-1/events.jsonl"] == b"line\n" * 700


def test_a_checkpoint_that_is_removed_meanwhile_is_skipped(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    path = write(one, CHECKPOINT, b"ten")
    write(one, "checkpoints/mini_bitnet_step_00000020.pt", b"twenty")
    with state_of(one) as state:
        Push(one, target, state, choose=lambda files: path.unlink(missing_ok=True) or files).run()
    assert set(stored(target)) == {"settings.env", "checkpoints/mini_bitnet_step_00000020.pt"}


def test_the_newest_checkpoint_is_sent_first(tmp_path: Path) -> None:
    target = MemoryTarget(Limits(object_bytes=4000, workers=1))
    order: list[str] = []
    target.after = lambda call, key: order.append(key) if call == "put" else None
    one = machine(tmp_path / "one")
    for step in (10, 200, 30):
        write(one, f"checkpoints/mini_bitnet_step_{step:08d}.pt", b"%d" % step)
    push(one, target)
    assert [key[-6:-3] for key in order if key.startswith("checkpoints/")] == ["200", "030", "010"]


def test_an_object_that_the_target_lost_keeps_the_state_from_being_published(
    tmp_path: Path, target: MemoryTarget
) -> None:
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"{}")
    target.after = lambda call, key: target.objects.pop(key) if key == "reports/r.json" and call == "put" else None
    with pytest.raises(BitnetError, match="did not arrive whole"):
        push(one, target)
    assert not any(key.startswith("manifests/") for key in target.objects)


def test_a_journal_is_stored_whole_while_it_is_written(tmp_path: Path) -> None:
    target = MemoryTarget()
    one = machine(tmp_path / "one")
    path = one.root / "data.journal" / "journal.sqlite"
    path.parent.mkdir()
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma locking_mode=exclusive")
    db.execute("pragma journal_mode=wal")
    db.execute("create table answers (key integer primary key, body blob)")
    for key in range(300):
        db.execute("insert into answers values (?, ?)", [key, content(500, key)])
    push(one, target)
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(stored(target)["data.journal/journal.sqlite"])
    with sqlite3.connect(copy) as found:
        assert found.execute("pragma integrity_check").fetchone() == ("ok",)
        assert found.execute("select count(*) from answers").fetchone() == (300,)
    db.execute("insert into answers values (300, 'x')")
    assert push(one, target).sent_files == 1
    db.close()
