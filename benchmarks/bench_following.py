"""What it costs to follow a run: bytes to the terminal, share of one core, and how long a key takes to be drawn.

    python benchmarks/bench_following.py [--seconds 30] [--json]

The app shows the live tab of a training, in a pseudo terminal of its own. First the training reports once a second,
on this machine and as over SSH; then 1,000 times a second, while tabs are turned. The share of one core at 1,000
events a second stands beside that of a loop of `json.loads` over as many lines. The exit code is 1 if a limit is
exceeded, and stderr says which.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench_long_run import events, plain_seconds
from terminals import Terminal, ours

sys.path.insert(0, str(Path(__file__).parents[1]))
_KEYS = ((b"7", b"lines"), (b"1", b"seen tokens"))
_LIMITS = {
    "bytes_a_second_over_ssh": 2000.0,
    "bytes_a_second_fast": 20_000.0,
    "core_share_fast": 0.25,
    "key_ms": 100.0,
}
"""The last two on a quiet machine."""
_BEFORE = 400
"""Reports that are there when the app opens."""


class Training:
    """A training whose process this one is. It reports when `report` is called."""

    def __init__(self, home: Path) -> None:
        from bitnet_core import process
        from bitnet_core.runs.experiment import Experiment, Workspace
        from bitnet_core.runs.record import Run, RunRecord
        from bitnet_core.settings.resolve import resolve

        self.root = Workspace(home).create("followed", "MINI_PRESET=nano\nTEACHER_PROVIDER=embedded\n")
        made = Experiment.from_settings(resolve({"BITNET_HOME": str(home)}, root=self.root).settings)
        made.ensure()
        run, me, now = Run(made.logs / "train-1"), process.identify(os.getpid()), time.time()
        assert me is not None
        run.path.mkdir()
        run.write(
            RunRecord(
                id=run.id, stage="train", state="running", settings=made.settings.to_record(), origins={},
                argv=["bench"], created=now, started=now, host=os.uname().nodename, boot_id=process.boot_id(),
                fingerprint="", pid=me.pid, process_start=me.start,
            )
        )  # fmt: skip
        self.events_path = run.events_path
        self._out = run.events_path.open("w", buffering=1)
        self._events, self._seq = events(1_000_000), 0
        self.report(_BEFORE)

    def report(self, many: int = 1) -> None:
        for _ in range(many):
            event = next(self._events)
            self._out.write(json.dumps({"kind": event["kind"], "v": 1, "t": time.time(), "seq": self._seq, **event}))
            self._out.write("\n")
            self._seq += 1

    def report_for(self, seconds: float, a_second: int, app: Terminal) -> int:
        """Report evenly, in at most 20 batches a second; returns the bytes that the app wrote meanwhile."""
        batches = min(a_second, 20)
        began, written = time.perf_counter(), 0
        for number in range(int(seconds * batches)):
            self.report(a_second // batches)
            written += app.read(max(0.0, began + (number + 1) / batches - time.perf_counter()))
        return written


@contextmanager
def following(training: Training, folder: Path, *, over_ssh: bool = False) -> Iterator[Terminal]:
    """The app on the training, drawn and settled."""
    os.environ.pop("SSH_CONNECTION", None)
    if over_ssh:
        os.environ["SSH_CONNECTION"] = "192.0.2.1 1 192.0.2.2 22"
    home = training.root.parent
    with Terminal(ours("--home", str(home), "--root", str(training.root)), folder) as app:
        os.environ.pop("SSH_CONNECTION", None)
        app.until(b"seen tokens", b"train")
        training.report_for(5.0, 1, app)
        yield app


def measure(seconds: float) -> dict[str, float]:
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training = Training(folder / "experiments")
        for where, over_ssh in (("here", False), ("over_ssh", True)):
            with following(training, folder, over_ssh=over_ssh) as app:
                before = app.cpu_seconds()
                written = training.report_for(seconds, 1, app)
                found[f"bytes_a_second_{where}"] = round(written / seconds, 1)
                found[f"core_share_{where}"] = round((app.cpu_seconds() - before) / seconds, 4)
        with following(training, folder, over_ssh=True) as app:
            before, first = app.cpu_seconds(), training.events_path.stat().st_size
            written = training.report_for(seconds, 1000, app)
            found["bytes_a_second_fast"] = round(written / seconds, 1)
            found["core_share_fast"] = round((app.cpu_seconds() - before) / seconds, 4)
            part = folder / "part"
            part.write_bytes(training.events_path.read_bytes()[first:])
            found["json_loads_share"] = round(plain_seconds(part) / seconds, 4)
            found |= _keys(training, app)
    return found


def _keys(training: Training, app: Terminal) -> dict[str, float]:
    """How long tabs take to be drawn while 1,000 events a second are written."""
    times = []
    for number in range(30):
        training.report_for(0.5, 1000, app)
        times.append(app.answer_ms(*_KEYS[number % 2]))
    return {"key_ms": round(statistics.median(times), 1), "slowest_key_ms": round(max(times), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result: dict[str, Any] = measure(options.seconds)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<24} {value:>10}")
    exceeded = [f"{name} is above {limit:g}" for name, limit in _LIMITS.items() if result[name] > limit]
    if exceeded:
        print("\n".join(exceeded), file=sys.stderr)
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
