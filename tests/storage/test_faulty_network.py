"""Cut connections and busy servers while an experiment is pushed, verified and pulled, against real servers."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bitnet_core.storage.patient import ATTEMPTS, Patient
from bitnet_core.storage.pull import Pull
from bitnet_core.storage.push import Push
from bitnet_core.storage.state import opened as opened_state
from bitnet_core.storage.target import Target, Unreachable
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest, verify
from tests.storage.experiments import CHECKPOINT, MIB, Watcher, complete_state, fill, machine, restored
from tests.storage.faulty_proxy import Faults, FaultyProxy
from tests.storage.stand import Running, Stand, all_stands, opened, webdav
from tests.storage.stands.firebase import emulator_at

SERVERS = ["s3 on seaweedfs", webdav(), "firebase"]
SIZES = [pytest.param(42, id="42 MB"), pytest.param(500, id="500 MB", marks=pytest.mark.storage_long)]


@pytest.fixture(scope="module", params=SERVERS)
def stand(request: pytest.FixtureRequest) -> Stand:
    (chosen,) = [one for one in all_stands() if one.name == request.param]
    if why := chosen.missing():
        pytest.skip(f"{chosen.name}: {why}")
    return chosen


@contextlib.contextmanager
def through(running: Running, port: int, folder: Path) -> Iterator[Target]:
    """The target, reached by a proxy on this port."""
    if running.through is not None:
        with opened(running, folder, running.through(port)) as target:
            yield target
    else:
        with emulator_at(port), opened(running, folder) as target:
            yield target


class Rising:
    """Takes progress, which must not fall, and must end at the whole."""

    def __init__(self) -> None:
        self.at: dict[str, tuple[int, int]] = {}

    def __call__(self, name: str, done: int, size: int) -> None:
        assert self.at.get(name, (0, 0))[0] <= done <= size, name
        self.at[name] = done, size

    def require_complete(self) -> None:
        assert self.at
        assert all(done == size for done, size in self.at.values()), self.at


def sizes_of(megabytes: int) -> dict[str, int]:
    """A few large files, some of one object, and small ones."""
    large = {f"data/kd_shard_{number:03}.parquet": 44 * MIB for number in range(megabytes // 60 - 1)}
    middle = {f"data/shard_{number}.parquet": MIB + number for number in range(8)}
    return {CHECKPOINT: 33 * MIB + 5, **large, **middle, **{f"reports/{n}.json": 10_000 + n for n in range(12)}}


@pytest.mark.parametrize("megabytes", SIZES)
def test_a_push_a_verify_and_a_pull_come_through(running: Running, tmp_path: Path, megabytes: int) -> None:
    one, two = machine(tmp_path / "one"), machine(tmp_path / "two")
    contents = fill(one, sizes_of(megabytes))
    retries: list[tuple[str, float]] = []
    # Where an object needs several requests (WebDAV five; S3 three: is one there, put it, is it mine), each may fail.
    faults = Faults(seed=megabytes, most=2 if running.settings["STORAGE_BACKEND"] == "firebase" else 1)
    with (
        opened(running, tmp_path) as direct,
        FaultyProxy(running.port, faults) as proxy,
        through(running, proxy.port, tmp_path) as target,
    ):
        patient = Patient(target, first_wait=0.02, on_retry=lambda *retry: retries.append(retry))
        place, seen_by_others = Under(patient, f"faults-{megabytes}/"), Under(direct, f"faults-{megabytes}/")
        pushing, verifying, pulling = Rising(), Rising(), Rising()
        with (
            opened_state(one.root, place.place) as state,
            Watcher(seen_by_others, {name: [data] for name, data in contents.items()}) as watcher,
        ):
            Push(one, place, state, on_bytes=lambda file, done: pushing(file.name, done, file.size)).run()
        report = verify(place, newest(place), on_bytes=lambda done, total: verifying("all", done, total))
        with opened_state(two.root, place.place) as state:
            published = complete_state(place)
            Pull(two, place, state, published, on_bytes=pulling).run(published.manifest.files)
        stored = restored(seen_by_others, published)
    assert watcher.looks > 3
    assert report.faults == []
    for progress in (pushing, verifying, pulling):
        progress.require_complete()
    for name, data in contents.items():
        assert stored[name] == data, name
        assert (two.root / name).read_bytes() == data, name
    assert {fault.kind for fault in proxy.seen.faults} == {"request", "answer", "busy"}
    assert len(proxy.seen.faults) > 15
    # Each fault costs at most one more attempt.
    assert 0 < len(retries) <= len(proxy.seen.faults)
    assert proxy.seen.waited > 0
    assert proxy.seen.early == []


@pytest.mark.parametrize("kind", ["put", "get", "list"])
def test_attempts_end(running: Running, tmp_path: Path, kind: str) -> None:
    """A server that is cut off each time is given up, in a sentence."""
    waits: list[float] = []
    with (
        FaultyProxy(running.port, Faults(seed=1, share=1.0, most=1000, waits=(None,))) as proxy,
        through(running, proxy.port, tmp_path) as target,
    ):
        patient = Patient(target, first_wait=0.001, on_retry=lambda _, seconds: waits.append(seconds))
        calls: dict[str, Callable[[], object]] = {
            "put": lambda: patient.put("ended/x", b"1" * 1000),
            "get": lambda: patient.get("ended/x"),
            "list": lambda: list(patient.list("ended/")),
        }
        with pytest.raises(Unreachable, match=r"\.$"):
            calls[kind]()
    assert len(waits) == ATTEMPTS - 1
    assert len(proxy.seen.faults) >= ATTEMPTS
