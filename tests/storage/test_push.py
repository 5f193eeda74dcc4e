"""Push above any target: what is stored, in which order, and what is left out."""

import json
import shutil
from pathlib import Path

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.layout import part_key
from bitnet_core.storage.push import Push
from bitnet_core.storage.snapshot import LocalFile
from bitnet_core.storage.target import Limits, Unreachable
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import CHECKPOINT, content, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, pull, push, save, state_of, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


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
    assert (done.dropped, done.gone, done.gone_bytes) == ([CHECKPOINT], [CHECKPOINT], 3)


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

    def prune(files: list[LocalFile]) -> list[LocalFile]:
        for path in new:
            path.unlink(missing_ok=True)
        return files

    with state_of(one) as state:
        assert Push(one, target, state, choose=prune).run().dropped == []
    assert {path.name for path in old} <= {Path(name).name for name in stored(target)}


def set_aside(experiment: Experiment, folder: str, to: str, names: list[str]) -> None:
    """As training and collecting do."""
    for name in names:
        (experiment.root / to / name).parent.mkdir(parents=True, exist_ok=True)
        (experiment.root / folder / name).rename(experiment.root / to / name)


@pytest.mark.parametrize("hidden", [False, True])
def test_what_was_set_aside_here_leaves_the_state(tmp_path: Path, target: MemoryTarget, hidden: bool) -> None:
    one = machine(tmp_path / "one")
    for number in range(3):
        write(one, f"data/kd_shard_{number:03d}.parquet", content(5000, number))
    write(one, "data/.sequences/part_001.parquet", b"old")
    save(one, 20)
    save(one, 28)
    push(one, target)
    write(one, "data/kd_shard_002.parquet", content(6000, 2))  # one that is not stored as it was set aside
    traces = [*(f"kd_shard_{number:03d}.parquet" for number in range(3)), ".sequences/part_001.parquet"]
    beside = "data/.superseded/2026" if hidden else "data.superseded/2026"
    set_aside(one, "data", beside, traces)
    steps = [path.name for path in one.checkpoints.iterdir()]
    set_aside(one, "checkpoints", "checkpoints/superseded/2026", steps)
    write(one, "data/kd_shard_000.parquet", content(5000, 9))
    save(one, 7)
    done = push(one, target)
    new = {"checkpoints/mini_bitnet_step_00000007.pt", "checkpoints/mini_bitnet_step_00000007_health.json"}
    aside = {*(f"{beside}/{name}" for name in traces), *(f"checkpoints/superseded/2026/{name}" for name in steps)}
    assert set(stored(target)) == {"settings.env", "data/kd_shard_000.parquet", *new, *aside}
    assert {*done.dropped} == {*(f"data/{name}" for name in traces[1:]), *(f"checkpoints/{name}" for name in steps)}
    again = write(one, f"checkpoints/{steps[0]}", b"of the new training")  # it is lost here, and not set aside
    push(one, target)
    again.unlink()
    write(one, "reports/r.json", b"{}")
    assert push(one, target).dropped == []
    assert stored(target)[f"checkpoints/{steps[0]}"] == b"of the new training"


def test_what_was_set_aside_after_it_was_stored_is_not_sent_again(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    first = save(one, 20)
    push(one, target)
    before = dict(target.objects)
    set_aside(one, "checkpoints", "checkpoints/superseded/2026", [path.name for path in first])
    write(one, "reports/r.json", b"{}")
    done = push(one, target)
    assert (done.sent_files, done.gone, done.gone_bytes) == (1, [], 0)
    assert {*done.dropped} == {f"checkpoints/{path.name}" for path in first}
    assert {key for key in target.objects if key not in before} <= {"reports/r.json"} | set(manifests.keys(target))
    aside = "checkpoints/superseded/2026/mini_bitnet_step_00000020.pt"
    write(one, CHECKPOINT.replace("10", "20"), content(9000, 7))  # of the new training, under the same name
    for number in range(3):  # until nothing of the older states is left
        write(one, "reports/r.json", content(9, number))
        push(one, target)
    assert stored(target)[aside] == content(10_000, 20)
    assert stored(target)[CHECKPOINT.replace("10", "20")] == content(9000, 7)
    assert verify(target, newest(target)).faults == []
    other = machine(tmp_path / "two")
    pull(other, target)
    assert (other.root / aside).read_bytes() == content(10_000, 20)


def test_of_the_checkpoints_only_those_that_are_needed_are_sent(tmp_path: Path, target: MemoryTarget) -> None:
    """The newest, the best as the newest says, the last one before the flip, and what the user has named."""
    one = machine(tmp_path / "one", STORAGE_CHECKPOINTS="needed")

    def save_with(step: int, bits: int, ramp: int = 0) -> None:
        health = {"activation_bits": bits, "layers_at_4_bits": ramp, "best": {"step": 20}}
        write(one, f"checkpoints/mini_bitnet_step_{step:08d}_health.json", json.dumps(health).encode())
        write(one, f"checkpoints/mini_bitnet_step_{step:08d}.pt", content(50, step))

    for step, bits, ramp in ((10, 8, 0), (20, 8, 0), (30, 8, 0), (35, 8, 2), (40, 4, 0), (50, 4, 0)):
        save_with(step, bits, ramp)
    write(one, "checkpoints/mini_bitnet_step_00000015.pt", b"torn")
    write(one, "checkpoints/mini_bitnet_step_00000060.pt", b"being written")
    write(one, "checkpoints/superseded/2026/mini_bitnet_step_00000070.pt", b"of a training before")
    write(one, "checkpoints/mine.pt", b"pinned")
    push(one, target)
    assert {name for name in stored(target) if name.endswith(".pt")} == {
        "checkpoints/mine.pt",
        *(f"checkpoints/mini_bitnet_step_{step:08d}.pt" for step in (20, 30, 50, 60)),
    }
    save_with(60, 4)
    save_with(65, 4)
    done = push(one, target)
    assert done.dropped == []  # what is in the copy stays there
    assert "checkpoints/mini_bitnet_step_00000050.pt" in stored(target)
    push(machine(tmp_path / "one", STORAGE_CHECKPOINTS="all"), target)
    everything = {f"checkpoints/{path.relative_to(one.checkpoints)}" for path in one.checkpoints.rglob("*.pt")}
    assert {name for name in stored(target) if name.endswith(".pt")} == everything


@pytest.mark.parametrize(
    "damage", [b"", b"{torn", b"[]", b'{"best": 3, "activation_bits": "x"}', b'{"best": {"step": "5"}}']
)
def test_a_damaged_health_file_leaves_the_newest_checkpoint(
    tmp_path: Path, target: MemoryTarget, damage: bytes
) -> None:
    one = machine(tmp_path / "one", STORAGE_CHECKPOINTS="needed")
    for step in (10, 20):
        save(one, step)
    write(one, "checkpoints/mini_bitnet_step_00000020_health.json", damage)
    push(one, target)
    assert "checkpoints/mini_bitnet_step_00000020.pt" in stored(target)


def test_what_this_machine_never_had_stays_when_the_same_name_is_set_aside(
    tmp_path: Path, target: MemoryTarget
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(two, "data/kd_shard_000.parquet", b"theirs")
    push(two, target)
    write(one, "data.superseded/2026/kd_shard_000.parquet", b"ours")
    push(one, target, force=True)
    assert stored(target)["data/kd_shard_000.parquet"] == b"theirs"


def test_the_shards_that_a_new_projection_has_no_more_leave_the_state(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    for name in ("kd_shard_000.parquet", "kd_shard_001.parquet", "projection.json"):
        write(one, f"data.projected/top/{name}", b"1")
    push(one, target)
    shutil.rmtree(one.root / "data.projected" / "top")
    write(one, "reports/r.json", b"{}")
    push(one, target)
    assert "data.projected/top/kd_shard_001.parquet" in stored(target)  # lost, and not made anew
    for name in ("kd_shard_000.parquet", "projection.json"):
        write(one, f"data.projected/top/{name}", b"2")
    assert push(one, target).dropped == ["data.projected/top/kd_shard_001.parquet"]


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
    for name, place in {"circle": "circle", "nowhere": "gone", "up": ".", "device": "/dev/null"}.items():
        (one.reports / name).symlink_to(place)
    reasons = {sentence.split(" is not ")[0]: sentence for sentence in push(one, target).left}
    assert "link to nothing that can be read" in reasons["reports/circle"]
    assert "link to nothing that can be read" in reasons["reports/nowhere"]
    assert "link to a folder; copy the folder" in reasons["reports/up"]
    assert "link that leads out" in reasons["reports/device"]


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
