"""Pull: nothing here is overwritten, nothing damaged gets its name, and what is whole comes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.collecting.journal import Journal, StoredAnswer
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.layout import part_key
from bitnet_core.storage.newest import newest_state
from bitnet_core.storage.pull import Incomplete, Pull
from bitnet_core.storage.target import Refused, Unreachable
from bitnet_core.storage.verify import newest, repair, still_damaged, verify
from tests.storage.experiments import CHECKPOINT, complete_state, content, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, pull, push, state_of, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


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
    (kept,) = (two.root / "superseded").glob("*/reports/r.json")
    assert kept.read_bytes() == b"mine"


@pytest.mark.parametrize("ends", ["closed", "killed"])
def test_answers_that_a_pull_replaces_are_taken_in_by_the_next_collect(
    tmp_path: Path, target: MemoryTarget, ends: str
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    name = "data.journal/journal.sqlite"
    collect(one, "both")
    push(one, target)
    pull(two, target)
    collect(one, "of one")
    push(one, target)
    collect(two, "of two", kill=ends == "killed")
    with pytest.raises(UsageError, match=f"{name} here differ"):
        pull(two, target)
    published = complete_state(target)
    with state_of(two) as state:
        forced = Pull(two, target, state, published, force=True)
        forced.run(published.manifest.files)
    (copy,) = (two.root / "data.journal").glob("journal.copy-*.sqlite")
    assert forced.aside.sentences() == [
        f"{name} that was here is now {copy}; the next `bitnet collect` takes its answers in."
    ]
    assert answers(one) == {"both", "of one"}
    assert answers(two) == {"both", "of one", "of two"}
    assert not copy.exists()


def collect(experiment: Experiment, key: str, *, kill: bool = False) -> None:
    """Store an answer in the journal; as a killed run leaves it, its newest part is in the log."""
    kept = experiment.root / "kept"
    with Journal.of(experiment.data) as journal:
        journal.put(key, StoredAnswer("ok", b"paid for"))
        shutil.copytree(journal.path.parent, kept)
        folder = journal.path.parent
    if kill:
        shutil.rmtree(folder)
        kept.rename(folder)
        assert (folder / "journal.sqlite-wal").stat().st_size
    else:
        shutil.rmtree(kept)


def answers(experiment: Experiment) -> set[str]:
    with Journal.of(experiment.data) as journal:
        return {key for key in ("both", "of one", "of two") if journal.get_status(key) == "ok"}


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: bytes(len(data)), lambda _: b""])
def test_a_reply_that_was_changed_on_the_way_is_no_damage(
    tmp_path: Path, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes]
) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    sizes = {"data/small": 700, "data/large": 14_000}
    for name, size in sizes.items():
        write(one, name, content(size))
    push(one, target)
    get, seen = target.get, set[str]()

    def changed_once(key: str) -> bytes:
        data = get(key)
        if key in seen:
            return data
        seen.add(key)
        return change(data)

    monkeypatch.setattr(target, "get", changed_once)
    pull(two, target)
    assert [(two.root / name).read_bytes() for name in sizes] == [content(size) for size in sizes.values()]
    assert len(seen) > 4  # the manifest, the index, the parts
    seen.clear()
    assert verify(target, newest(target)).faults == []


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


@pytest.mark.parametrize("refused", ["reports/r.json", part_key(CHECKPOINT, 1), f"{CHECKPOINT}.parts/index.json"])
def test_what_may_not_be_read_is_named_and_never_given_up(tmp_path: Path, target: MemoryTarget, refused: str) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    for name, data in {"reports/r.json": b"1", "reports/s.json": b"2", CHECKPOINT: content(10_000)}.items():
        write(one, name, data)
    push(one, target)

    def refuse(call: str, key: str) -> None:
        if call == "get" and key == refused:
            raise Refused(f"{key} can't be used (permission denied).")

    target.before = refuse
    name = refused.partition(".parts")[0]
    report = verify(target, newest(target))
    assert [(fault.key, fault.what) for fault in report.faults] == [(refused, "unreadable")]
    assert report.unreadable == {name: f"{refused} can't be used (permission denied)."}
    puts = target.puts.copy()
    done = repair(one, target, newest(target), report)
    assert not report.damaged and not done.files and not done.left and target.puts == puts
    assert not still_damaged(target, newest(target), [name])
    with pytest.raises(Incomplete, match=rf"{name} can't be read at .*permission denied\)\.$") as raised:
        pull(two, target)
    assert "files were brought" in str(raised.value) and "--force" not in str(raised.value)
    assert (two.root / "reports/s.json").read_bytes() == b"2" and not (two.root / name).exists()


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
