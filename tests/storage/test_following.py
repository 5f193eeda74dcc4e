"""What one machine has set aside, a pull sets aside on the other: by a rename, and never what was changed there."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage import following
from bitnet_core.storage.pull import Pull, Pulled
from bitnet_core.storage.state import State
from tests.storage.experiments import complete_state, content, machine, write
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, pull, push, save, state_of, stored

pytestmark = pytest.mark.usefixtures("no_wait_for_a_turn")
ASIDE = "checkpoints/superseded/2026"


@pytest.fixture
def target() -> MemoryTarget:
    return MemoryTarget(SMALL)


@pytest.fixture
def machines(tmp_path: Path, target: MemoryTarget) -> tuple[Experiment, Experiment]:
    """Both have steps 10 and 20 and two shards; then the first one has set all of it aside, begun anew and pushed."""
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    save(one, 10)
    save(one, 20)
    for number in range(2):
        write(one, f"data/kd_shard_{number:03d}.parquet", content(5000, number))
        write(one, f"data.projected/top/kd_shard_{number:03d}.parquet", content(300, number))
    write(one, "data.projected/top/projection.json", b"1")
    push(one, target)
    pull(two, target)
    for folder, aside in (("checkpoints", ASIDE), ("data", "data.superseded/2026")):
        for path in [path for path in (one.root / folder).iterdir() if path.is_file()]:
            move(one, f"{folder}/{path.name}", f"{aside}/{path.name}")
    save(one, 5)
    write(one, "data/kd_shard_000.parquet", content(5000, 7))
    (one.root / "data.projected/top/kd_shard_001.parquet").unlink()
    write(one, "data.projected/top/projection.json", b"2")
    push(one, target)
    return one, two


def move(experiment: Experiment, name: str, to: str) -> None:
    (experiment.root / to).parent.mkdir(parents=True, exist_ok=True)
    (experiment.root / name).rename(experiment.root / to)


def files_of(experiment: Experiment) -> dict[str, bytes]:
    return {
        path.relative_to(experiment.root).as_posix(): path.read_bytes()
        for path in experiment.root.rglob("*")
        if path.is_file() and ".storage" not in path.parts
    }


def pulled(experiment: Experiment, target: MemoryTarget) -> Pulled:
    published = complete_state(target)
    with state_of(experiment) as state:
        return Pull(experiment, target, state, published).run(published.manifest.files)


def test_what_another_machine_has_set_aside_is_set_aside_here_without_being_brought(
    machines: tuple[Experiment, Experiment], target: MemoryTarget
) -> None:
    one, two = machines
    inode = (two.root / "checkpoints/mini_bitnet_step_00000010.pt").stat().st_ino
    target.gets.clear()
    done = pulled(two, target)
    assert files_of(two) == files_of(one)
    assert (two.root / f"{ASIDE}/mini_bitnet_step_00000010.pt").stat().st_ino == inode
    assert len(done.moved) == 7
    assert not any("superseded" in name for name in done.files)
    assert not any("_00000010.pt" in key for key in target.gets)
    write(two, "reports/r.json", b"{}")
    push(two, target)
    assert {*stored(target)} - {"settings.env"} == files_of(two).keys()
    assert pulled(one, target).moved == [] and files_of(one) == files_of(two)


def test_what_was_changed_here_is_left_where_it_is(
    machines: tuple[Experiment, Experiment], target: MemoryTarget
) -> None:
    _, two = machines
    mine = {
        "checkpoints/mini_bitnet_step_00000010.pt": b"mine",
        "checkpoints/mini_bitnet_step_00000030.pt": content(10_000, 10),
        "data.projected/top/kd_shard_001.parquet": b"mine, too",
    }
    for name, data in mine.items():
        write(two, name, data)
    assert not mine.keys() & {*pulled(two, target).moved}
    assert mine.items() <= files_of(two).items()
    assert (two.root / f"{ASIDE}/mini_bitnet_step_00000010.pt").read_bytes() == content(10_000, 10)


@pytest.mark.parametrize("who", [0, 1])
def test_what_was_put_back_by_hand_stays(
    machines: tuple[Experiment, Experiment], target: MemoryTarget, who: int
) -> None:
    one, two = machines
    pull(two, target)
    here, there = machines[who], machines[1 - who]
    name = "mini_bitnet_step_00000020.pt"
    write(here, f"checkpoints/{name}", (here.root / ASIDE / name).read_bytes())
    write(there, "reports/r.json", b"of the other one")
    push(there, target)
    assert pulled(here, target).moved == []
    push(here, target)
    assert pulled(there, target).moved == []
    assert files_of(one) == files_of(two) and f"checkpoints/{name}" in files_of(one)


def test_a_target_that_was_set_back_moves_nothing(
    machines: tuple[Experiment, Experiment], target: MemoryTarget
) -> None:
    _, two = machines
    before = dict(target.objects)
    pull(two, target)
    name = "mini_bitnet_step_00000020"
    for end in (".pt", "_health.json"):
        move(two, f"{ASIDE}/{name}{end}", f"checkpoints/{name}{end}")
    push(two, target)
    target.objects.clear()
    target.objects.update(before)
    assert pulled(two, target).moved == []
    assert (two.root / f"checkpoints/{name}.pt").exists()


def test_a_copy_on_another_disk_is_brought_and_then_the_old_one_goes(
    machines: tuple[Experiment, Experiment], target: MemoryTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = machines
    real = Path.rename

    def rename(path: Path, to: Path) -> Path:
        if "superseded" in str(to):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return real(path, to)

    monkeypatch.setattr(Path, "rename", rename)
    done = pulled(two, target)
    assert files_of(two) == files_of(one)
    assert f"{ASIDE}/mini_bitnet_step_00000010.pt" in done.files and len(done.moved) == 6


class Killed(BaseException):
    pass


@pytest.mark.parametrize("call", ["fsync", "know", "share", "forget", "unshare", "get"])
@pytest.mark.parametrize("number", [1, 2, 4])
def test_a_pull_that_is_killed_at_any_step_loses_nothing_and_the_next_one_finishes(
    machines: tuple[Experiment, Experiment],
    target: MemoryTarget,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    one, two = machines
    before = files_of(two)
    left = number

    def killing(act: Callable[..., object]) -> Callable[..., object]:
        def maybe(*given: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return act(*given)

        return maybe

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(following, "fsync_folder", killing(following.fsync_folder))
        elif call == "get":
            patch.setattr(target, "get", killing(target.get))
        else:
            patch.setattr(State, call, killing(getattr(State, call)))
        with pytest.raises(Killed):
            pulled(two, target)
    kept = {name for name in before if "projected" not in name and not name.startswith("data/")}
    assert {before[name] for name in kept} <= {*files_of(two).values()}
    pulled(two, target)
    assert files_of(two) == files_of(one)
