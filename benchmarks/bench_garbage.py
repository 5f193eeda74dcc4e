"""How long garbage collections hold the app in a long session, and how much memory the session keeps.

    python benchmarks/bench_garbage.py [--rounds 6] [--experiments 200] [--events 1000000] [--json]

The app runs in a pseudo terminal. In each round Home is sorted and filtered, the guide is gone through, an experiment
and each of its tabs is opened, a dialog and the palette; then there is a rest at Home. Prints for each generation how
often it was looked at, the longest look in milliseconds of processor time, and the most objects looked at; then the
resident memory after the first round and after the last. The exit code is 1 if a look is longer than --limit.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_home import workspace
from bench_long_run import experiment
from terminals import Terminal

_WATCHED = """
import gc, json, sys, time
from bitnet_tui.start import main
began = objects = 0
out = open(sys.argv.pop(1), "w", buffering=1)
def look(phase, found):
    global began, objects
    if phase == "start":
        # Without a step of Python's in between: in one, another thread may go on, and fail for what these lists hold.
        objects = sum(map(len, map(gc.get_objects, range(found["generation"] + 1))))
        began = time.thread_time()
    else:
        took = (time.thread_time() - began) * 1000
        out.write(json.dumps([found["generation"], took, objects, found["collected"]]) + "\\n")
gc.callbacks.append(look)
sys.exit(main())
"""
_ROUND: tuple[tuple[float, tuple[bytes, ...]], ...] = (
    (0.1, (b"o", b"O", b"/", b"r", b"u", b"\x1b")),
    (0.4, (b"n", b"\x0e", b"\x0e", b"\x0e", b"\x0e", b"\x1b", b"\x1b")),
    (1.0, (b"\x1b[H", b"\r")),
    (0.2, (b"c", b"m", b"L", b"x", b"+", b"0")),
    (0.4, (b"2", b"3", b"\x1b[6~", b"4", b"5", b"6", b"7", b"1", b"\x1b", b"\x1b")),
    (0.5, (b"a", b"\x1b", b"?", b"\x1b", b"\x10", b"\x1b")),
)
"""Seconds after each key, and the keys."""
_REST_SECONDS = 7.0


def measure(rounds: int, experiments: int, events: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home, log = folder / "experiments", folder / "looks"
        workspace(home, experiments)
        experiment(home / "a-long-one", events)
        with Terminal([sys.executable, "-c", _WATCHED, str(log), "--home", str(home)], folder) as app:
            app.until(rb"\d+ experiments {2,}")
            app.read(_REST_SECONDS)
            resident: list[float] = []
            for _ in range(rounds):
                for seconds, keys in _ROUND:
                    for key in keys:
                        app.press(key)
                        app.read(seconds)
                app.read(_REST_SECONDS)
                resident.append(_resident_mb(app.pid))
        looks: list[list[Any]] = [json.loads(line) for line in log.read_text().splitlines()]
    found: dict[str, float] = {}
    for generation in range(3):
        own = [one for one in looks if one[0] == generation] or [[generation, 0.0, 0, 0]]
        found[f"generation_{generation}_looks"] = len(own)
        found[f"generation_{generation}_longest_ms"] = round(max(one[1] for one in own), 1)
        found[f"generation_{generation}_most_objects"] = max(one[2] for one in own)
    return found | {"resident_mb_first": resident[0], "resident_mb_last": resident[-1]}


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--limit", type=float, default=50.0, help="the longest look to accept, in milliseconds")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.rounds, options.experiments, options.events)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<26} {value:>10}")
    late = [f"generation {n}" for n in range(3) if result[f"generation_{n}_longest_ms"] > options.limit]
    if late:
        print(f"longer than {options.limit:g} ms: {', '.join(late)}", file=sys.stderr)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
