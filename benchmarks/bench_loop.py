"""The longest that one callback of the app's event loop holds the processor: so long, a key waits at least.

    python benchmarks/bench_loop.py [--events 1000000] [--experiments 200] [--limit 50] [--json]

The app runs without a terminal, in 120×36: the table of experiments, the guide and the comparison; each tab of a
training of a million metric events, which is scrolled and looked at from all sides while it is being read; then the
same tabs of a training that reports 1,000 times a second. For each step it prints the longest callback in
milliseconds of processor time of the loop's thread, and its ratio to that of opening and scrolling a bare Textual
table of as many rows. What is imported at its first use is imported before. The longest garbage collection of those
that come while one works, in any step and thread, is also told on its own. The exit code is 1 if a callback
or a collection is longer than --limit.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from bench_following import Training
from bench_home import workspace
from bench_long_run import experiment
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import DataTable

from bitnet_tui.garbage import in_small_steps
from tests.tui.loop_time import LongestCallback

_SIZE = (120, 36)
_BARE_TABLE, _COLLECTION = "bare table", "garbage collection"
_CHARTS = ("c", "c", "m", "L", "b", "b", "x", "full_stop", "plus", "plus", "minus", "0", "C", "C")
_STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("home: scroll", ("end", "home", *["pagedown"] * 5, *["down"] * 10)),
    ("home: sort, filter", ("o", "o", "O", "slash", *"run", "escape")),
    ("home: mark, compare", ("space", "down", "space", "V", "pagedown", "c", "b", "m", "escape")),
    ("guide", ("n", "ctrl+n", "ctrl+n", "ctrl+n", "ctrl+n", "escape")),
)
_TABS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("charts", _CHARTS),
    ("traces", ("2", "pagedown", "pageup")),
    ("reports", ("3", "pagedown", "end", "home")),
    ("checkpoints", ("4", "down", "up")),
    ("storage", ("5", "pagedown")),
    ("config", ("6", "end", "home", "pagedown", "slash", *"lr", "escape")),
    ("log", ("7", "home", "pagedown", "end", "w", "m", "1")),
)


class _Bare(App[None]):
    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows

    def compose(self) -> ComposeResult:
        yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns(*(f"column {n}" for n in range(11)))
        for row in range(self._rows):
            table.add_row(*(f"cell {row}-{n}" for n in range(11)))


async def _pressed(pilot: Pilot[None], keys: tuple[str, ...]) -> None:
    for key in keys:
        await pilot.press(key)
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.3)


async def _bare(longest: LongestCallback, rows: int) -> float:
    async with _Bare(rows).run_test(size=_SIZE) as pilot:
        await _pressed(pilot, _STEPS[0][1])
    return longest.take()


async def _ours(
    longest: LongestCallback, home: Path, root: Path, name: str, training: Training | None
) -> dict[str, float]:
    from bitnet_tui.app import BitnetApp

    found: dict[str, float] = {}
    async with BitnetApp(home, root if training else None).run_test(size=_SIZE) as pilot:
        await _pressed(pilot, ())
        found[f"{name}: open"] = longest.take()
        if training is None:
            for step, keys in _STEPS:
                await _pressed(pilot, keys)
                found[step] = longest.take()
            pilot.app.open_experiment(root)  # type: ignore[attr-defined]
            await _pressed(pilot, ())
            found[f"{name}: open a run"] = longest.take()
        reports = asyncio.create_task(asyncio.to_thread(_report, training)) if training else None
        for tab, keys in _TABS:
            await _pressed(pilot, keys)
            found[f"{name}: {tab}"] = longest.take()
        if reports:
            await reports
    longest.take()
    return found


def _report(training: Training) -> None:
    for _ in range(200):
        training.report(50)
        time.sleep(0.05)


def measure(many: int, experiments: int) -> dict[str, float]:
    longest = LongestCallback()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name) / "experiments"
        workspace(home, experiments)
        long = experiment(home / "long", many)
        training = Training(Path(name) / "followed")
        with longest.watching():
            asyncio.run(_ours(LongestCallback(), home, long, "", None))  # imports what is imported at its first use
            longest.take()
            in_small_steps()  # as an app that has a terminal does
            longest.collecting = 0.0
            bare = asyncio.run(_bare(longest, experiments))
            found = asyncio.run(_ours(longest, home, long, "a long run", None))
            found |= asyncio.run(_ours(longest, training.root.parent, training.root, "a fast run", training))
    return {_BARE_TABLE: bare, **found, _COLLECTION: longest.collecting * 1000}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--experiments", type=int, default=200)
    parser.add_argument("--limit", type=float, default=50.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.events, arguments.experiments)
    bare = found[_BARE_TABLE]
    if arguments.json:
        sys.stdout.write(json.dumps({name: round(ms, 1) for name, ms in found.items()}) + "\n")
    else:
        for name, ms in found.items():
            sys.stdout.write(f"{name:<28} {ms:7.1f} ms  {ms / bare:5.2f}\n")
    late = [name for name, ms in found.items() if name != _BARE_TABLE and ms > arguments.limit]
    if late:
        sys.stderr.write(f"longer than {arguments.limit:g} ms: {', '.join(late)}\n")
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())
