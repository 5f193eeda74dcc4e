"""How long the app takes to open a run of a million metric events, against one of ten, and to read the whole of it.

    python benchmarks/bench_long_run.py [--events 1000000] [--rounds 3] [--json]

Each app is started by turns in a pseudo terminal of its own. A run is open when its state and its newest
evaluation are drawn. Prints medians in milliseconds from the start of the process; then, of an app in which nothing
is pressed, its processor time until all is read, and its ratio to a loop of `json.loads` over the same lines in this
process. In another one tabs are turned while the rest is read, and `key_ms` is how long each takes to be drawn. The
exit code is 1 if a limit is exceeded, and stderr says which.
"""

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from terminals import Terminal, ours

_T, _TOKENS = 1.79e9, 549
_ALL_IS_READ = b"activations A8"
"""Only the log has it, and only once the whole run is read."""


def events(many: int) -> Iterator[dict[str, Any]]:
    """What a training of so many reports writes: all that a report has, an evaluation now and then, one flip."""
    rnd = random.Random(1)
    yield {"kind": "run_started", "stage": "train", "run": "train-1", "pid": 1, "host": "h", "device": "cpu"}
    budget = {"tokens": many * _TOKENS, "epoch_tokens": 9000, "epochs": 9.5, "flip_at_tokens": many // 2 * _TOKENS}
    yield {"kind": "budget", **budget}
    for step in range(1, many + 1):
        place = {"step": step, "seen_tokens": step * _TOKENS}
        loss, bits = 2 + 10 * math.exp(-5 * step / many) + rnd.random(), 8 if step < many // 2 else 4
        if step == many // 2:
            yield {"kind": "flip", **place, "from_bits": 8, "to_bits": 4}
        if step % min(100, many) == 0:
            held_out = {f"heldout_{name}": loss * part for name, part in (("loss", 1), ("kl", 0.6), ("ce", 0.7))}
            yield {"kind": "metric", **place, "when": "interval", **held_out, "heldout_agreement": rnd.random()}
        yield {
            "kind": "metric", **place, "loss": loss, "kl": loss * 0.6, "ce": loss * 0.7, "format": loss * 0.3,
            "agreement": rnd.random(), "lr": 1e-3 * rnd.random(), "grad_norm": rnd.random(), "grad_norm_clipped": 1.0,
            "tokens_per_s": 700 * rnd.random(), "activation_bits": bits, "layers_at_4_bits": 0,
            "zero_weight_fraction": rnd.random(), "zero_weights_by_layer": [rnd.random() for _ in range(4)],
            "a4_clipped_fraction": rnd.random(), "a4_zero_fraction": rnd.random(), "nonfinite": 0, "epoch": 0,
            "peak_rss_bytes": 835584000,
        }  # fmt: skip


def experiment(root: Path, many: int) -> Path:
    """One training that ended well; returns its root."""
    run = root / "logs" / "train-1"
    for folder in (run, root / "checkpoints", root / "data", root / "reports"):
        folder.mkdir(parents=True)
    (root / ".env").write_text("SEED=1\nMINI_PRESET=nano\nTEACHER_PROVIDER=embedded\n")
    record: dict[str, Any] = {
        "id": "train-1",
        "stage": "train",
        "state": "succeeded",
        "settings": {"BUDGET_TOKENS": many * _TOKENS},
    }
    record |= {"origins": {}, "argv": ["bench"], "created": _T, "started": _T, "ended": _T + many, "host": "bench"}
    record |= {"boot_id": "x", "fingerprint": "x", "number": 1, "summary": {}}
    (run / "run.json").write_text(json.dumps(record))
    with (run / "events.jsonl").open("w") as out:
        for seq, event in enumerate(events(many)):
            out.write(json.dumps({"kind": event["kind"], "v": 1, "t": _T + seq * 0.9, "seq": seq, **event}) + "\n")
    return root


def opened(terminal: Terminal, many: int) -> float:
    """Milliseconds until the state and the newest evaluation are drawn."""
    return terminal.until(b"done", f"at step {many:,}".encode())


def plain_seconds(path: Path) -> float:
    """Processor time of the plainest reader."""
    began = time.process_time()
    with path.open("rb") as lines:
        for line in lines:
            json.loads(line)
    return time.process_time() - began


def measure(many: int, rounds: int) -> dict[str, float]:
    short: list[float] = []
    long: list[float] = []
    keys: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        roots = {count: experiment(folder / "experiments" / f"run-{count}", count) for count in (10, many)}
        commands = {n: ours("--home", str(folder / "experiments"), "--root", str(root)) for n, root in roots.items()}
        for _ in range(rounds + 1):  # the first only warms the disk cache
            with Terminal(commands[10], folder) as app:
                short.append(opened(app, 10))
            with Terminal(commands[many], folder) as app:
                long.append(opened(app, many))
        with Terminal(commands[many], folder) as app:
            opened(app, many)
            before = app.cpu_seconds()
            whole = app.until(_ALL_IS_READ)
            seconds = app.cpu_seconds() - before
        with Terminal(commands[many], folder) as app:
            opened(app, many)
            while len(keys) < 40 and _ALL_IS_READ not in app.seen:
                keys.append(app.answer_ms(b"7", b"lines"))
                keys.append(app.answer_ms(b"1", b"seen tokens"))
        plain = plain_seconds(roots[many] / "logs" / "train-1" / "events.jsonl")
    short_ms, long_ms = statistics.median(short[1:]), statistics.median(long[1:])
    return {
        "events": many,
        "ten_events_ms": round(short_ms, 1),
        "opened_ms": round(long_ms, 1),
        "opened_ratio": round(long_ms / short_ms, 3),
        "key_ms": round(statistics.median(keys), 1),
        "slowest_key_ms": round(max(keys), 1),
        "keys": len(keys),
        "whole_ms": round(whole, 1),
        "whole_cpu_s": round(seconds, 2),
        "json_loads_cpu_s": round(plain, 2),
        "cpu_ratio": round(seconds / plain, 3),
        "rounds": rounds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=float, default=1.5, help="largest ratio of the times to open to accept")
    parser.add_argument("--cpu-limit", type=float, default=1.5, help="largest ratio of processor times to accept")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.events, options.rounds)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<16} {value:>10}")
    limits = {"opened_ratio": options.limit, "cpu_ratio": options.cpu_limit}
    exceeded = [f"{name} is above {limit:g}" for name, limit in limits.items() if result[name] > limit]
    if exceeded:
        print("\n".join(exceeded), file=sys.stderr)
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
