"""Push and pull above any target: what is sent, what is visible when, and what two machines do to each other."""

import random
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolve import from_values
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage import turn
from bitnet_core.storage.layout import part_key
from bitnet_core.storage.pull import Incomplete, Pull, complete_state, newest_state
from bitnet_core.storage.push import Conflict, Push, Pushed
from bitnet_core.storage.state import State, opened
from bitnet_core.storage.target import Limits, Refused, Unreachable
from bitnet_core.storage.verify import newest, repair, verify
from tests.storage.memory import MemoryTarget

SMALL = Limits(object_bytes=4000)
CHECKPOINT = "checkpoints/mini_bitnet_step_00000010.pt"


def machine(folder: Path, **values: str) -> Experiment:
    experiment = Experiment.from_settings(from_values({"DRIVE_ROOT": str(folder), **values}))
    experiment.ensure()
    return experiment


def write(experiment: Experiment, name: str, data: bytes) -> Path:
    path = experiment.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@contextmanager
def state_of(experiment: Experiment) -> Iterator[State]:
    with opened(experiment.root, "memory") as state:
        yield state


def push(experiment: Experiment, target: MemoryTarget, **options: bool) -> Pushed:
    with state_of(experiment) as state:
        return Push(experiment, target, state, **options).run()


def pull(experiment: Experiment, target: MemoryTarget, *, force: bool = False) -> list[str]:
    published = complete_state(target)
    with state_of(experiment) as state:
        return Pull(experiment, target, state, published, force=force).run(published.manifest.files).files


def stored(target: MemoryTarget) -> dict[str, bytes]:
    """Every file of the newest complete state, put together from its objects."""
    found = {}
    for one in complete_state(target).manifest.files:
        keys = [key for key, size in one.objects() if size is not None]
        found[one.name] = b"".join(target.objects[key] for key in keys)
    return found


def content(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


@pytest.fixture(autouse=True, scope="module")
def no_wait_for_a_turn() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(turn, "ABANDONED_SECONDS", 0.0)
        yield


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


# -- what is stored ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 3999, 4000, 4001, 7999, 8000, 8001, 30_000])
def test_every_size_comes_back(tmp_path: Path, target: MemoryTarget, size: int) -> None:
    one = machine(tmp_path / "one")
    write(one, "data/kd.parquet", content(size))
    push(one, target)
    assert stored(target)["data/kd.parquet"] == content(size)
    two = machine(tmp_path / "two")
    pull(two, target)
    assert (two.data / "kd.parquet").read_bytes() == content(size)
    assert verify(target, newest(target)).faults == []


def test_the_layout_can_be_restored_by_hand(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(10_000))
    write(one, "reports/r.json", b"{}")
    push(one, target)
    assert target.objects["reports/r.json"] == b"{}"
    parts = sorted(key for key in target.objects if key.startswith(f"{CHECKPOINT}.parts/0"))
    assert [key.rpartition("/")[2] for key in parts] == ["00000", "00001", "00002"]
    assert b"".join(target.objects[key] for key in parts) == content(10_000)
    assert f"{CHECKPOINT}.parts/index.json" in target.objects


def test_the_manifest_is_written_last(tmp_path: Path, target: MemoryTarget) -> None:
    order: list[str] = []
    target.after = lambda call, key: order.append(key) if call == "put" else None
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(10_000))
    push(one, target)
    assert order[-1].startswith("manifests/")
    assert order.index(f"{CHECKPOINT}.parts/index.json") > order.index(part_key(CHECKPOINT, 2))


def test_nothing_is_sent_twice(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(10_000))
    write(one, "reports/r.json", b"{}")
    first = push(one, target)
    puts = target.puts.total()
    second = push(one, target)
    assert (second.key, second.sent_files, target.puts.total()) == (first.key, 0, puts)
    (one.reports / "r.json").touch()  # the same content at another time
    assert push(one, target).sent_files == 0


def test_a_changed_file_leaves_the_older_state_whole_until_the_manifest(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"older")
    write(one, CHECKPOINT, content(10_000))
    push(one, target)
    write(one, "reports/r.json", b"newer")
    write(one, CHECKPOINT, content(10_400, 1))

    def fail_at_manifest(call: str, key: str) -> None:
        if call == "put" and key.startswith("manifests/"):
            raise Unreachable("cut")

    target.before = fail_at_manifest
    with pytest.raises(Unreachable):
        push(one, target)
    assert stored(target)["reports/r.json"] == b"older"
    assert stored(target)[CHECKPOINT] == content(10_000)
    target.before = lambda _call, _key: None
    puts = target.puts.total()
    push(one, target)
    assert target.puts.total() == puts + 3  # an index, which is small, the turn, and the manifest
    assert stored(target)["reports/r.json"] == b"newer"
    assert stored(target)[CHECKPOINT] == content(10_400, 1)


def test_superseded_objects_go_after_the_next_but_one_state(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    for version in range(6):
        write(one, "reports/r.json", b"%d" % version)
        push(one, target)
        assert stored(target)["reports/r.json"] == b"%d" % version
    assert len([key for key in target.objects if key.startswith("reports/")]) == 2
    assert len([key for key in target.objects if key.startswith("manifests/")]) == 2


def test_a_pruned_checkpoint_goes_and_other_lost_files_stay(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    old = write(one, CHECKPOINT, b"ten")
    shard = write(one, "data/kd.parquet", b"paid for")
    push(one, target)
    old.unlink()
    shard.unlink()
    write(one, "checkpoints/mini_bitnet_step_00000020.pt", b"twenty")
    push(one, target)
    assert CHECKPOINT in stored(target)  # the newer one is not complete yet
    write(one, "checkpoints/mini_bitnet_step_00000020_health.json", b"{}")
    done = push(one, target)
    assert set(stored(target)) >= {"checkpoints/mini_bitnet_step_00000020.pt", "data/kd.parquet"}
    assert CHECKPOINT not in stored(target)
    assert (done.dropped, done.dropped_bytes) == ([CHECKPOINT], 3)


def save(experiment: Experiment, step: int) -> list[Path]:
    stem = f"checkpoints/mini_bitnet_step_{step:08d}"
    return [write(experiment, f"{stem}.pt", content(10_000, step)), write(experiment, f"{stem}_health.json", b"{}")]


def test_checkpoints_that_were_lost_here_stay_in_the_copy(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    files = [path for step in (10, 20) for path in save(one, step)]
    push(one, target)
    before = set(stored(target))
    for path in files:
        path.unlink()
    write(one, "reports/r.json", b"{}")
    assert push(one, target).dropped == []
    assert set(stored(target)) == {*before, "reports/r.json"}


def test_a_checkpoint_stays_until_the_one_that_replaces_it_has_arrived(tmp_path: Path, target: MemoryTarget) -> None:
    """Each is removed before it is sent, as where sending one takes longer than several intervals."""
    one = machine(tmp_path / "one")
    old = save(one, 10)
    push(one, target)
    for path in old:
        path.unlink()
    new = save(one, 20)

    def prune(_file: object) -> bool:
        for path in new:
            path.unlink(missing_ok=True)
        return True

    with state_of(one) as state:
        assert Push(one, target, state, include=prune).run().dropped == []
    assert {path.name for path in old} <= {Path(name).name for name in stored(target)}


def test_what_is_not_stored(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, ".env", b"OPENAI_API_KEY=sk-canary")
    write(one, "data/.env", b"OPENAI_API_KEY=sk-canary")
    write(one, "data/.env.backup", b"OPENAI_API_KEY=sk-canary")
    write(one, "logs/.train.lock", b"")
    write(one, "data/.kd.parquet.ab-1-cd.part", b"half")
    write(one, "notes/private.txt", b"not an artifact")
    write(one, "data/.sequences/part_000.parquet", b"needed")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"sk-canary")
    (one.data / "link.txt").symlink_to(outside / "secret.txt")
    (one.data / "folder").symlink_to(outside)
    (one.data / "inside.txt").symlink_to(one.data / ".sequences" / "part_000.parquet")
    done = push(one, target)
    assert set(stored(target)) == {"settings.env", "data/.sequences/part_000.parquet", "data/inside.txt"}
    assert not any(b"sk-canary" in data for data in target.objects.values())
    assert len(done.left) == 2 and all("link that leads out" in sentence for sentence in done.left)


@pytest.mark.parametrize("name", [".ENV", "prod.env", ".Env.local"])
def test_files_that_may_hold_keys_are_not_stored_under_any_name(
    tmp_path: Path, target: MemoryTarget, name: str
) -> None:
    one = machine(tmp_path / "one")
    write(one, f"data/{name}", b"OPENAI_API_KEY=sk-canary")
    (one.data / "settings.txt").symlink_to(name)
    left = push(one, target).left
    assert set(stored(target)) == {"settings.env"}
    assert any("settings.txt is not stored: it is a link to" in sentence for sentence in left)
    assert any("prod.env is not stored" in sentence for sentence in left) == (name == "prod.env")


def test_a_journal_beside_a_data_folder_with_brackets_is_stored(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one", DATA_DIR=str(tmp_path / "one" / "data [v1]"))
    write(one, "data [v1].journal/answers.txt", b"paid for")
    write(one, "data [v1].ENV/x", b"left out, as pull would refuse it")
    push(one, target)
    assert set(stored(target)) == {"settings.env", "data.journal/answers.txt"}


def test_names_that_the_target_would_confuse_stop_before_the_first_byte(tmp_path: Path) -> None:
    target = MemoryTarget(Limits(case_sensitive=False))
    one = machine(tmp_path / "one")
    write(one, "data/A.parquet", b"1")
    write(one, "data/a.parquet", b"2")
    with pytest.raises(UsageError, match="upper and lower case"):
        push(one, target)
    assert not target.objects


@pytest.mark.parametrize("name", ["n" * 60, "x/" * 30 + "x"])
def test_names_too_long_for_the_target_stop_before_the_first_byte(tmp_path: Path, name: str) -> None:
    target = MemoryTarget(Limits(segment_bytes=50, key_bytes=60))
    one = machine(tmp_path / "one")
    write(one, f"data/{name}", b"1")
    with pytest.raises(UsageError, match="longer than"):
        push(one, target)
    assert not target.objects


def test_more_files_than_a_manifest_can_name_stop_before_the_first_byte(tmp_path: Path) -> None:
    target = MemoryTarget(SMALL)
    one = machine(tmp_path / "one")
    for number in range(40):
        write(one, f"data/{number}.parquet", b"x")
    with pytest.raises(UsageError, match=r"has more files \(41\) than memory can hold"):
        push(one, target)
    assert not target.objects


@pytest.mark.parametrize(("older", "newer"), [("reports/a", "reports/a/b"), ("reports/a/b/c", "reports/a")])
def test_a_file_that_is_a_folder_now_can_be_read_back(
    tmp_path: Path, target: MemoryTarget, older: str, newer: str
) -> None:
    one = machine(tmp_path / "one")
    write(one, older, b"1")
    push(one, target)
    shutil.rmtree(one.reports)
    write(one, newer, b"2")
    done = push(one, target)
    assert manifests.read(target, done.key).key == newest(target).key
    assert set(stored(target)) == {"settings.env", newer}


def test_a_name_like_our_folders_is_left_out_with_a_reason(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, "data/x.parts/00000", b"1")
    done = push(one, target)
    assert "x.parts/00000" in done.left[0]
    assert set(stored(target)) == {"settings.env"}


# -- parts -------------------------------------------------------------------------------------------------------


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
    assert any("changes all the while" in sentence for sentence in done.left)
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
        Push(one, target, state, include=lambda _: path.unlink(missing_ok=True) is None).run()
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


# -- a database that is in use -----------------------------------------------------------------------------------


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


# -- two machines ------------------------------------------------------------------------------------------------


def test_another_experiment_of_that_name_is_refused(tmp_path: Path, target: MemoryTarget) -> None:
    push(machine(tmp_path / "one"), target)
    with pytest.raises(Conflict, match="STORAGE_NAME"):
        push(machine(tmp_path / "two"), target)


def test_a_pulled_experiment_goes_on_from_there_and_the_first_machine_is_told(
    tmp_path: Path, target: MemoryTarget
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, CHECKPOINT, b"ten")
    push(one, target)
    pull(two, target)
    write(two, "checkpoints/mini_bitnet_step_00000020.pt", b"twenty")
    push(two, target)
    push(one, target)  # nothing of its own changed
    write(one, "checkpoints/mini_bitnet_step_00000020.pt", b"another twenty")
    with pytest.raises(Conflict, match="another machine"):
        push(one, target)
    assert stored(target)["checkpoints/mini_bitnet_step_00000020.pt"] == b"twenty"
    with pytest.raises(UsageError, match="differ"):
        pull(one, target)
    push(one, target, force=True)
    assert stored(target)["checkpoints/mini_bitnet_step_00000020.pt"] == b"another twenty"


def test_of_two_pushes_at_once_one_wins_and_the_other_is_told(tmp_path: Path, target: MemoryTarget) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    push(one, target)
    pull(two, target)
    write(one, "reports/r.json", b"of one")
    write(two, "reports/r.json", b"of two")
    with state_of(two) as state:
        late = Push(two, target, state)  # it has read the state before the other publishes
        push(one, target)
        try:
            late.run()
        except Conflict:
            assert stored(target)["reports/r.json"] == b"of one"
        else:
            assert stored(target)["reports/r.json"] == b"of two"
    whole = complete_state(target).manifest
    assert verify(target, newest(target)).faults == [] and len({one.name for one in whole.files}) == len(whole.files)


@pytest.mark.parametrize("seed", range(4))
def test_who_took_too_long_to_publish_is_told_and_not_the_other(
    tmp_path: Path, target: MemoryTarget, seed: int
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    push(one, target)
    pull(two, target)
    write(one, "reports/r.json", b"of one %d" % seed)
    write(two, "reports/r.json", b"of two %d" % seed)
    done: list[Pushed] = []

    def stall(call: str, key: str) -> None:
        if call == "put" and key.startswith("manifests/"):
            target.before = lambda _call, _key: None
            done.append(push(two, target))  # it takes the turn for that of a machine that was killed

    target.before = stall
    with pytest.raises(Conflict):
        push(one, target)
    assert newest(target).key == done[0].key
    assert stored(target)["reports/r.json"] == b"of two %d" % seed
    assert turn.KEY not in target.objects


def test_an_interrupted_publish_of_our_own_is_not_taken_for_another_machine(
    tmp_path: Path, target: MemoryTarget
) -> None:
    one = machine(tmp_path / "one")

    def fail_once_after(call: str, key: str) -> None:
        if call == "put" and key.startswith("manifests/"):
            target.after = lambda _call, _key: None
            raise Unreachable("its answer was lost")

    target.after = fail_once_after
    with pytest.raises(Unreachable):
        push(one, target)
    write(one, "reports/r.json", b"{}")
    push(one, target)
    assert stored(target)["reports/r.json"] == b"{}"


def test_a_copied_folder_is_another_writer(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"1")
    push(one, target)
    shutil.copytree(one.root, tmp_path / "two")
    two = machine(tmp_path / "two")
    with state_of(one) as ours, state_of(two) as theirs:
        assert ours.writer != theirs.writer
    write(one, "reports/r.json", b"of one")
    push(one, target)
    write(two, "reports/other.json", b"of two")
    with pytest.raises(Conflict, match="another machine"):
        push(two, target)
    assert stored(target)["reports/r.json"] == b"of one"


def test_who_was_cut_before_anything_arrived_replaces_nothing_of_another_machine(
    tmp_path: Path, target: MemoryTarget
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    push(one, target)
    pull(two, target)
    write(one, CHECKPOINT, content(10_000, 1))
    write(two, CHECKPOINT, content(10_000, 2))

    def cut(call: str, _key: str) -> None:
        if call == "put":
            raise Unreachable("cut")

    target.before = cut
    for machine_ in (one, two):
        with pytest.raises(Unreachable):
            push(machine_, target)
    target.before = lambda _call, _key: None
    with state_of(two) as state:
        late = Push(two, target, state)
        push(one, target)
        with pytest.raises(Conflict):
            late.run()
    assert verify(target, newest(target)).faults == []
    assert stored(target)[CHECKPOINT] == content(10_000, 1)


def test_the_index_of_another_machine_is_not_replaced(tmp_path: Path, target: MemoryTarget) -> None:
    """Its file begins as ours does and ends elsewhere, so that all of our parts are there already."""
    one = machine(tmp_path / "one")
    write(one, CHECKPOINT, content(8000))
    theirs = b"the index of a longer file"
    target.put(f"{CHECKPOINT}.parts/index.json", theirs)
    push(one, target)
    assert target.objects[f"{CHECKPOINT}.parts/index.json"] == theirs
    assert stored(target)[CHECKPOINT] == content(8000)


# -- pull --------------------------------------------------------------------------------------------------------


def test_a_pull_never_overwrites_what_differs(tmp_path: Path, target: MemoryTarget) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "reports/r.json", b"stored")
    write(one, "data/kd.parquet", content(12_000))
    push(one, target)
    mine = write(two, "reports/r.json", b"mine")
    with pytest.raises(UsageError, match=r"reports/r\.json"):
        pull(two, target)
    assert mine.read_bytes() == b"mine" and not (two.data / "kd.parquet").exists()
    pull(two, target, force=True)
    assert mine.read_bytes() == b"stored"


@pytest.mark.parametrize("size", [700, 14_000])
def test_a_flipped_byte_never_reaches_a_file(tmp_path: Path, target: MemoryTarget, size: int) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "data/kd.parquet", content(size))
    push(one, target)
    key = "data/kd.parquet" if size == 700 else part_key("data/kd.parquet", 2)
    damaged = bytearray(target.objects[key])
    damaged[100] ^= 1
    target.objects[key] = bytes(damaged)
    with pytest.raises(BitnetError, match="damaged"):
        pull(two, target)
    assert not (two.data / "kd.parquet").exists()
    report = verify(target, newest(target))
    assert [(fault.file, fault.what) for fault in report.faults] == [("data/kd.parquet", "changed")]
    assert repair(one, target, newest(target), report).files == ["data/kd.parquet"]
    assert verify(target, newest(target)).faults == []
    pull(two, target)
    assert (two.data / "kd.parquet").read_bytes() == content(size)


def test_the_longest_names_come_back(tmp_path: Path, target: MemoryTarget) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    name = f"data/{'漢' * 79}"
    write(one, name, content(9000))
    push(one, target)
    assert name in pull(two, target)
    assert (two.root / name).read_bytes() == content(9000)


@pytest.mark.parametrize("lost", ["reports/r.json", f"{CHECKPOINT}.parts/00001", f"{CHECKPOINT}.parts/index.json"])
def test_a_missing_object_is_named_and_repaired(tmp_path: Path, target: MemoryTarget, lost: str) -> None:
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"{}")
    write(one, CHECKPOINT, content(10_000))
    push(one, target)
    del target.objects[lost]
    with pytest.raises(BitnetError, match=f"is not complete: {lost.partition('.parts')[0]} is missing"):
        complete_state(target)
    report = verify(target, newest(target))
    assert [(fault.key, fault.what) for fault in report.faults] == [(lost, "missing")]
    repair(one, target, newest(target), report)
    assert verify(target, newest(target)).faults == []
    assert stored(target)[CHECKPOINT] == content(10_000)


def test_a_repair_says_what_this_machine_does_not_have(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"{}")
    push(one, target)
    write(one, "reports/r.json", b"changed since")
    del target.objects["reports/r.json"]
    done = repair(one, target, newest(target), verify(target, newest(target)))
    assert not done.files and "reports/r.json" in done.left[0]


def test_a_cut_pull_goes_on_with_the_parts_that_are_missing(tmp_path: Path, target: MemoryTarget) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, CHECKPOINT, content(40_000))
    push(one, target)

    def fail_at_seven(call: str, key: str) -> None:
        if call == "get" and key == part_key(CHECKPOINT, 7):
            raise Unreachable("cut")

    target.before = fail_at_seven
    with pytest.raises(Unreachable):
        pull(two, target)
    assert not (two.root / CHECKPOINT).exists()
    target.before = lambda _call, _key: None
    target.gets.clear()
    pull(two, target)
    assert (two.root / CHECKPOINT).read_bytes() == content(40_000)
    assert sum(1 for key in target.gets if ".parts/0" in key) <= 5


def test_an_older_state_comes_with_a_warning_when_the_newest_cannot_be_read(
    tmp_path: Path, target: MemoryTarget
) -> None:
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"1")
    push(one, target)
    write(one, "reports/r.json", b"2")
    newer = push(one, target)
    target.objects[newer.key] = target.objects[newer.key][:-10]
    found = newest_state(target)
    assert found.published.manifest.counter == 1
    assert f"can't be read ({newer.key} is damaged), so this is an older one, state 1 of" in found.warning
    assert stored(target)["reports/r.json"] == b"1"


@pytest.mark.parametrize("lost", ["reports/r.json", part_key(CHECKPOINT, 1), f"{CHECKPOINT}.parts/index.json"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_what_is_whole_is_brought_and_what_is_not_is_named(
    tmp_path: Path, target: MemoryTarget, lost: str, how: str
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "reports/r.json", b"older")
    push(one, target)
    files = {"reports/r.json": b"1", "reports/s.json": b"2", CHECKPOINT: content(10_000), "data/z": content(9000)}
    for name, data in files.items():
        write(one, name, data)
    push(one, target)
    entry = newest(target).manifest.by_name()["reports/r.json"]
    key = entry.key if lost == "reports/r.json" else lost
    if how == "missing":
        del target.objects[key]
    else:
        target.objects[key] = bytes(byte ^ 1 for byte in target.objects[key])
    found = newest_state(target)
    assert found.published.manifest.counter == 2 and not found.warning
    name = lost.partition(".parts")[0]
    assert found.lacking == ({name} if how == "missing" else set())
    with (
        state_of(two) as state,
        pytest.raises(Incomplete, match=f"{name} is {how}.*; {len(files)} files were brought.*push --verify"),
    ):
        Pull(two, target, state, found.published, lacking=found.lacking).run(found.published.manifest.files)
    for other, data in files.items():
        path = two.root / other
        assert path.read_bytes() == data if other != name else not path.exists()
    with state_of(two) as state:
        assert not state.note("manifest")
    repair(one, target, newest(target), verify(target, newest(target)))
    assert pull(two, target) == [name]


def test_an_unreadable_newest_manifest_is_not_taken_for_another_machine(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    push(one, target)
    write(one, "reports/r.json", b"2")
    newer = push(one, target)
    target.objects[newer.key] = target.objects[newer.key][:-10]
    before = set(target.objects)
    write(one, "reports/r.json", b"3")
    with pytest.raises(BitnetError, match="can't be read; run `bitnet store push --verify`"):
        push(one, target)
    assert set(target.objects) == before


def test_a_copy_that_is_gone_is_not_made_anew_unasked(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    push(one, target)
    unmounted = MemoryTarget(SMALL)
    with pytest.raises(BitnetError, match="is gone; mount its disk"):
        push(one, unmounted)
    assert not unmounted.objects
    push(one, unmounted, force=True)
    assert "settings.env" in stored(unmounted)


def test_a_refused_call_stops_a_push_with_its_sentence(tmp_path: Path, target: MemoryTarget) -> None:
    def refuse(call: str, key: str) -> None:
        if call == "put":
            raise Refused("No space is left; free some.")

    target.before = refuse
    with pytest.raises(Refused, match="No space"):
        push(machine(tmp_path / "one"), target)


def test_a_manifest_names_what_it_is_named_after(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    done = push(one, target)
    read = manifests.read(target, done.key).manifest
    assert read.counter == 1 and manifests.key_of(read) == done.key


# -- any history of two machines ---------------------------------------------------------------------------------

_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["write", "push", "pull", "cut push", "cut pull", "remove"]),
        st.integers(0, 1),
        st.integers(0, 3),
        st.integers(0, 20_000),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(actions=_ACTIONS)
def test_whatever_two_machines_do_the_newest_state_is_whole(
    actions: list[tuple[str, int, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Against a slow twin: the state is what the last successful push had, file by file."""
    folder = tmp_path_factory.mktemp("history")
    target = MemoryTarget(SMALL)
    machines = [machine(folder / "one"), machine(folder / "two")]
    expected: dict[str, bytes] = {}

    def cut_after(left: int) -> None:
        def count(_call: str, _key: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Unreachable("cut")

        target.before = count

    for calls, (what, who, which, size) in enumerate(actions):
        one = machines[who]
        name = f"data/{which}.parquet"
        if what == "write":
            write(one, name, content(size, calls))
        elif what == "remove":
            (one.root / name).unlink(missing_ok=True)
        else:
            if what.startswith("cut"):
                cut_after(size % 12)
            try:
                if what.endswith("push"):
                    push(one, target)
                    local = {f"data/{path.name}": path.read_bytes() for path in one.data.glob("*.parquet")}
                    expected.update(local)
                else:
                    pull(one, target)
            except BitnetError:
                if what == "cut push":  # it may have been published before the cut
                    target.before = lambda _call, _key: None
                    if target.objects and any(key.startswith("manifests/") for key in target.objects):
                        found = {k: v for k, v in stored(target).items() if k.startswith("data/")}
                        local = {f"data/{p.name}": p.read_bytes() for p in one.data.glob("*.parquet")}
                        assert found in (expected, expected | local)
                        expected = found
            finally:
                target.before = lambda _call, _key: None
    if any(key.startswith("manifests/") for key in target.objects):
        assert verify(target, newest(target)).faults == []
        assert {k: v for k, v in stored(target).items() if k.startswith("data/")} == expected
