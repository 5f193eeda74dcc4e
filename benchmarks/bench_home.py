"""How long the table of many experiments takes to be usable, against a bare Textual table of as many rows.

    python benchmarks/bench_home.py [--experiments 200] [--rounds 5] [--json]

Each app is started by turns in a pseudo terminal of its own, and the space bar is pressed all the while: it is usable
when rows are drawn and a mark was counted. `complete_ms` is when the last experiment was read. Prints medians in
milliseconds from the start of the process, and the ratio. Then, of a table in which nothing happens: its share of one
core, for longer than the minute after which each experiment is read again, and the bytes that it writes. The exit
code is 1 if a limit is exceeded, and stderr says which.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from terminals import Terminal, ours

_BARE = """
import sys
from textual.app import App
from textual.widgets import DataTable, Static
class Bare(App):
    BINDINGS = [("space", "mark", "Mark")]
    def compose(self):
        yield DataTable(cursor_type="row")
    def on_mount(self):
        table = self.query_one(DataTable)
        table.add_columns(*(f"column {n}" for n in range(11)))
        for row in range(int(sys.argv[1])):
            table.add_row(*(f"cell {row}-{n}" for n in range(11)))
    def action_mark(self):
        self.mount(Static("1 marked"), before=0)
Bare().run()
"""


_QUIET_SECONDS, _MOST_LOOKS = 10.0, 12
"""A table that writes nothing for so long is at rest."""


def workspace(home: Path, many: int) -> None:
    """Experiments with a training of a thousand reports and an evaluation each, as their stages would leave them."""
    metric = '{"v":1,"t":%d,"seq":%d,"kind":"metric","step":%d,"seen_tokens":%d,"loss":%.4f,"grad_norm":0.8'
    for number in range(many):
        root = home / f"run-{number:04d}"
        for folder in ("checkpoints", "data", "reports", "logs/train-1", "logs/eval-1"):
            (root / folder).mkdir(parents=True)
        (root / ".env").write_text(f"SEED={number}\nMINI_PRESET=nano\nTEACHER_PROVIDER=embedded\n")
        (root / "checkpoints" / "mini_bitnet_step_1000.pt").write_bytes(b"\0" * 4096)
        lines = [
            (metric % (1.79e9 + step, step, step, step * 700, 5 - step / 400))
            + (f',"heldout_loss":{9 - step / 200 - number / 1000:.4f}}}' if step % 100 == 0 else "}")
            for step in range(1001)
        ]
        (root / "logs" / "train-1" / "events.jsonl").write_text("\n".join(lines) + "\n")
        for stage, place in (("train", 1), ("eval", 2)):
            record: dict[str, Any] = {
                "id": f"{stage}-1",
                "stage": stage,
                "state": "succeeded",
                "settings": {"BUDGET_TOKENS": 700000},
            }
            record |= {
                "origins": {},
                "argv": ["bench"],
                "created": 1.79e9,
                "started": 1.79e9,
                "ended": 1.79e9 + place,
            }
            record |= {"host": "bench", "boot_id": "x", "fingerprint": "x", "number": place, "summary": {"qei": 1.25}}
            (root / "logs" / f"{stage}-1" / "run.json").write_text(json.dumps(record))
        os.utime(root, (1.79e9, 1.79e9))  # an age of minutes would be drawn anew each minute


def measure(many: int, rounds: int, idle_seconds: float) -> dict[str, float]:
    found: dict[str, list[float]] = {"bare": [], "usable": [], "complete": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workspace(folder / "experiments", many)
        table = ours("--home", str(folder / "experiments"))
        for _ in range(rounds + 1):  # the first only warms the disk cache
            bare = Terminal([sys.executable, "-c", _BARE, str(many)], folder)
            found["bare"].append(bare.until(b"cell 0-0", b"1 marked", key=b" "))
            bare.close()
            app = Terminal(table, folder)
            found["usable"].append(app.until(rb"run-\d+ ", rb"\d+ marked", key=b" "))
            app.close()
            app = Terminal(table, folder)
            found["complete"].append(app.until(rb"%d experiments {2,}" % many))
            app.close()
        app = Terminal(table, folder)
        app.until(rb"%d experiments {2,}" % many)
        for _ in range(_MOST_LOOKS):  # until everything is read and measured
            if not app.read(_QUIET_SECONDS):
                break
        before, written = app.cpu_seconds(), app.read(idle_seconds)
        share = (app.cpu_seconds() - before) / idle_seconds
        app.close()
    bare_ms, usable_ms, complete_ms = (statistics.median(times[1:]) for times in found.values())
    return {
        "experiments": many,
        "bare_table_ms": round(bare_ms, 1),
        "usable_ms": round(usable_ms, 1),
        "complete_ms": round(complete_ms, 1),
        "ratio": round(usable_ms / bare_ms, 3),
        "idle_core_share": round(share, 4),
        "idle_bytes": written,
        "rounds": rounds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle-seconds", type=float, default=65.0)
    parser.add_argument("--idle-limit", type=float, default=0.01, help="largest share of one core to accept")
    parser.add_argument("--limit", type=float, default=2.0, help="largest ratio to accept")
    parser.add_argument("--usable-limit", type=float, default=1000.0, help="most milliseconds, on a quiet machine")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.experiments, options.rounds, options.idle_seconds)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:<16} {value:>8}")
    limits = {
        "ratio": options.limit,
        "usable_ms": options.usable_limit,
        "idle_core_share": options.idle_limit,
        "idle_bytes": 0,
    }
    exceeded = [f"{name} is above {limit:g}" for name, limit in limits.items() if result[name] > limit]
    if exceeded:
        print("\n".join(exceeded), file=sys.stderr)
    return 1 if exceeded else 0


if __name__ == "__main__":
    sys.exit(main())
