"""Files that change, shrink, grow, vanish or are replaced while they are sent, and what can't be read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.storage.push import Push, Pushed
from bitnet_core.storage.state import opened as opened_state
from bitnet_core.storage.target import Limits
from bitnet_core.storage.verify import verify
from tests.storage.experiments import CHECKPOINT, complete_state, content, machine, restored, write
from tests.storage.memory import MemoryTarget

PART = 4000
OLD, NEW = content(10 * PART, 1), content(10 * PART, 2)
LOG = "logs/0001-train/events.jsonl"


def push(experiment: Experiment, target: MemoryTarget) -> Pushed:
    with opened_state(experiment.root, "memory") as state:
        return Push(experiment, target, state).run()


def at_the_third_part(target: MemoryTarget, then: Callable[[], object]) -> None:
    left = [then]

    def look(call: str, key: str) -> None:
        if call == "put" and ".parts/00002" in key and left:
            left.pop()()

    target.before = look


def replace_by(data: bytes) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        newer = path.with_name("newer")
        newer.write_bytes(data)
        newer.replace(path)

    return replace


def rewrite(data: bytes) -> Callable[[Path], None]:
    def rewritten(path: Path) -> None:
        with path.open("r+b") as out:
            out.truncate(len(data))
            out.write(data)

    return rewritten


@pytest.mark.parametrize("name", [CHECKPOINT, "data/shard.parquet"])
@pytest.mark.parametrize("change", [
    pytest.param(rewrite(NEW), id="rewritten"),
    pytest.param(rewrite(NEW[: 5 * PART + 7]), id="shrunk"),
    pytest.param(rewrite(NEW[:100]), id="shrunk to one object"),
    pytest.param(rewrite(b""), id="emptied"),
    pytest.param(rewrite(NEW + NEW), id="grown"),
    pytest.param(replace_by(NEW), id="replaced"),
    pytest.param(lambda path: path.unlink(), id="vanished"),
    pytest.param(lambda path: (path.unlink(), path.mkdir()), id="now a folder"),
    pytest.param(lambda path: (path.unlink(), os.mkfifo(path)), id="now a pipe"),
])  # fmt: skip
def test_a_source_that_moves(tmp_path: Path, name: str, change: Callable[[Path], object]) -> None:
    """What is stored is one moment of the file, the older state stays, and the next push is right."""
    target = MemoryTarget(Limits(object_bytes=PART))
    one = machine(tmp_path / "one")
    path = write(one, name, content(3 * PART, 7))
    push(one, target)
    path.write_bytes(OLD)
    at_the_third_part(target, lambda: change(path))
    push(one, target)
    state = complete_state(target)
    assert verify(target, state).faults == []
    stored = restored(target, state)
    assert stored.get(name) in (None, OLD, content(3 * PART, 7), path.read_bytes() if path.is_file() else None)
    push(one, target)
    if path.is_file():
        assert restored(target, complete_state(target))[name] == path.read_bytes()
    assert verify(target, complete_state(target)).faults == []


def test_a_log_that_shrinks_is_not_stored_short(tmp_path: Path) -> None:
    target = MemoryTarget(Limits(object_bytes=PART))
    one = machine(tmp_path / "one")
    path = write(one, LOG, OLD)
    at_the_third_part(target, lambda: rewrite(NEW[: 9 * PART + 5])(path))
    push(one, target)
    stored = restored(target, complete_state(target))
    assert stored[LOG] == path.read_bytes()


@pytest.mark.skipif(os.getuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    target = MemoryTarget(Limits(object_bytes=PART))
    one = machine(tmp_path / "one")
    write(one, "data/secret.parquet", OLD).chmod(0)
    write(one, "data/shard.parquet", NEW)
    done = push(one, target)
    assert [sentence for sentence in done.left if "secret.parquet is not stored (Permission denied)" in sentence]
    assert restored(target, complete_state(target))["data/shard.parquet"] == NEW


def test_a_file_that_a_bad_disk_keeps_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = MemoryTarget(Limits(object_bytes=PART))
    one = machine(tmp_path / "one")
    broken = write(one, "data/broken.parquet", OLD)
    write(one, "data/shard.parquet", NEW)
    reading = os.open

    def fail(path: Path, *rest: int) -> int:
        if Path(path) == broken:
            raise OSError(5, "Input/output error")
        return reading(path, *rest)

    monkeypatch.setattr(os, "open", fail)
    done = push(one, target)
    assert [one for one in done.left if one.endswith("is not stored (Input/output error); check the disk.")]
    assert restored(target, complete_state(target))["data/shard.parquet"] == NEW
