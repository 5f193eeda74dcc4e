"""Two machines push and pull one experiment, in any order: nothing is mixed, and each is told of the other."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.storage import turn
from bitnet_core.storage.push import Conflict, Push, Pushed
from bitnet_core.storage.state import State
from bitnet_core.storage.target import Unreachable
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import CHECKPOINT, complete_state, content, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, pull, push, save, state_of, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


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


def test_what_was_not_changed_here_is_updated(tmp_path: Path, target: MemoryTarget) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    for name, data in {"reports/r.json": b"1", CHECKPOINT: content(9000), "data/kd.parquet": b"old"}.items():
        write(one, name, data)
    push(one, target)
    pull(two, target)
    for turn_, (here, there) in enumerate([(one, two), (two, one), (two, one), (one, two)]):
        files = {"reports/r.json": b"r%d" % turn_, CHECKPOINT: content(9000, turn_ + 1), f"reports/{turn_}": b""}
        for name, data in files.items():
            write(here, name, data)
        push(here, target)
        write(here, "reports/again", b"%d" % turn_)
        push(here, target)  # the manifest that the other one saw is gone now
        assert {*pull(there, target)} - {"settings.env"} == {*files, "reports/again"}
        for name, data in files.items():
            assert (there.root / name).read_bytes() == data
    mine = write(one, "reports/r.json", b"mine")
    write(two, "reports/r.json", b"theirs")
    write(two, "data/kd.parquet", b"new")
    push(two, target)
    with pytest.raises(UsageError, match=r"^reports/r\.json here differ"):
        pull(one, target)
    assert mine.read_bytes() == b"mine" and (one.data / "kd.parquet").read_bytes() == b"old"


def test_a_target_that_was_set_back_replaces_nothing(tmp_path: Path, target: MemoryTarget) -> None:
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"1")
    push(one, target)
    before = dict(target.objects)
    newer = write(one, "reports/r.json", b"2")
    push(one, target)
    target.objects.clear()
    target.objects.update(before)
    with pytest.raises(UsageError, match="differ"):
        pull(one, target)
    assert newer.read_bytes() == b"2"


def test_who_is_behind_drops_nothing(tmp_path: Path, target: MemoryTarget) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    old = save(one, 10)
    save(one, 20)
    push(one, target)
    pull(two, target)
    write(two, "reports/r.json", b"of two")
    push(two, target)
    for path in old:
        path.unlink()
    with pytest.raises(Conflict, match="another machine"):
        push(one, target)
    assert CHECKPOINT in stored(target)


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


def test_a_clone_of_a_machine_is_another_machine(
    tmp_path: Path, target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacked from one archive in two containers, a folder has the same path, device and inode on both."""
    monkeypatch.setattr(State, "belong_to", lambda _self, _root: None)
    one = machine(tmp_path / "one")
    write(one, "reports/r.json", b"v1")
    push(one, target)
    shutil.copytree(one.root, tmp_path / "two")
    two = machine(tmp_path / "two")
    with state_of(one) as ours, state_of(two) as theirs:
        assert ours.writer == theirs.writer
    write(one, "reports/r.json", b"of one")
    write(one, "reports/one.json", b"1")
    push(one, target)
    write(two, "reports/r.json", b"of two")
    with pytest.raises(Conflict, match="another machine"):
        push(two, target)
    assert stored(target)["reports/r.json"] == b"of one"


def test_two_clones_do_not_have_one_turn(target: MemoryTarget) -> None:
    one, two = turn.fresh_token("0badcafe"), turn.fresh_token("0badcafe")
    # The second one takes over what is abandoned, which is at once here.
    with turn.turn(target, one, 1) as held, turn.turn(target, two, 1):
        assert not held.is_ours()


@pytest.mark.parametrize("times", [0, 1, 3])
@pytest.mark.parametrize("force", [True, False])
def test_who_pushed_last_has_the_state_or_is_told(
    tmp_path: Path, target: MemoryTarget, times: int, *, force: bool
) -> None:
    """The other machine publishes meanwhile, so often that what this one started from is gone."""
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    write(one, "reports/kept.json", b"kept")
    push(one, target)
    pull(two, target)
    write(two, "reports/r.json", b"of two")

    def meanwhile(call: str, key: str) -> None:
        if call == "put" and key.startswith("reports/r.json"):
            target.before = lambda _call, _key: None
            for version in range(times):
                write(one, "reports/r.json", b"of one %d" % version)
                write(one, "reports/kept.json", b"kept %d" % version)
                push(one, target)

    target.before = meanwhile
    if force or not times:
        done = push(two, target, force=force)
        assert newest(target).key == done.key
        assert stored(target)["reports/r.json"] == b"of two"
    else:
        with pytest.raises(Conflict):
            push(two, target)
        assert stored(target)["reports/r.json"] == b"of one %d" % (times - 1)
    assert verify(target, newest(target)).faults == []


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
