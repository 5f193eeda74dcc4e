"""What is written to a real terminal while nothing changes: nothing, on every screen."""

import json
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.tui.every_screen import SCREENS, by_keys
from tests.tui.quiet import QUIET_SECONDS
from tests.tui.terminal import Terminal

_TICK_BYTES = 250
"""More than a clock needs in a second, and less than a screen."""
_MOST_STRETCHES = 20
"""In how many stretches of time more than the clock may be drawn; on a slow machine things come late."""
_APPS = 5
"""So many at once in the workspace with most screens: the time goes by in waiting."""
_KEY_SECONDS, _SCREEN_SECONDS, _TRIES = 0.15, 20.0, 3
"""After a key, what it does is drawn. On a slow machine that comes late, and the next key may come too early."""
_TYPED = {
    "enter": "\r", "escape": "\x1b", "up": "\x1b[A", "down": "\x1b[B", "home": "\x1b[H", "end": "\x1b[F",
    "slash": "/", "question_mark": "?", "plus": "+", "f3": "\x1bOR", "ctrl+n": "\x0e", "ctrl+p": "\x10",
}  # fmt: skip
_HERE = {"its student": "Sequence length"}
"""What is shown where the estimate is a real one."""
_OPEN = "Whole pipeline"
"""What is shown once an experiment's keys work."""
_ESCAPES = 4
"""From any screen to Home."""


def _press(terminal: Terminal, keys: Iterable[str]) -> None:
    for key in keys:
        terminal.press(_TYPED.get(key, key))
        terminal.wait_until_quiet(_KEY_SECONDS)


def _appears(terminal: Terminal, text: str) -> bool:
    deadline = time.monotonic() + _SCREEN_SECONDS
    while text not in terminal.shown and time.monotonic() < deadline:
        terminal.read(0.1)
    return text in terminal.shown


def _to(terminal: Terminal, name: str) -> list[str]:
    """The keys from Home to an experiment."""
    assert _appears(terminal, "4 experiments"), terminal.shown
    listed = re.findall(r"[○●] (\w+) ", terminal.shown)
    return [_TYPED["home"] + _TYPED["down"] * listed.index(name), "enter"]


def _two_hours_earlier(root: Path) -> None:
    """So its clock shows minutes, and stands still meanwhile."""
    for record in root.glob("logs/*/run.json"):
        found = json.loads(record.read_text())
        record.write_text(json.dumps(found | {name: found[name] - 7200 for name in ("created", "started")}))
        events = record.with_name("events.jsonl")
        lines = [json.loads(line) for line in events.read_text().splitlines()]
        events.write_text("".join(json.dumps(one | {"t": one["t"] - 7200}) + "\n" for one in lines))


def test_nothing_is_written_to_a_real_terminal_while_nothing_changes(workspaces: Path):
    _two_hours_earlier(workspaces / "experiments" / "silent")
    of_home: dict[str, list[str]] = {}
    for name, way in SCREENS.items():
        if by_keys(way):
            of_home.setdefault(way.workspace, []).append(name)
    most = of_home.pop("experiments")
    parts = [("experiments", most[n::_APPS]) for n in range(_APPS)] + list(of_home.items())
    with ThreadPoolExecutor(len(parts)) as apps:
        seen = list(apps.map(lambda part: _visit(workspaces / part[0], part[1]), parts))
    assert sum(seen) >= len(SCREENS) - 2


def _visit(home: Path, names: list[str]) -> int:
    """How many of these screens an app has shown, and then written nothing."""
    with Terminal("--home", str(home), columns=120, rows=36) as terminal:
        terminal.until("bitnet-tui")
        for name in names:
            assert any(_reaches(terminal, name) for _ in range(_TRIES)), f"{name} did not appear:\n{terminal.shown}"
            terminal.wait_until_quiet(QUIET_SECONDS)
    return len(names)


def _reaches(terminal: Terminal, name: str) -> bool:
    """Whether its keys, from Home, show what they should."""
    way = SCREENS[name]
    _press(terminal, ["escape"] * _ESCAPES)
    if way.experiment:
        _press(terminal, _to(terminal, way.experiment))
        assert _appears(terminal, _OPEN), terminal.shown
    _press(terminal, map(str, way.keys))
    return _appears(terminal, _HERE.get(name, way.text))


def test_only_the_clock_is_written_while_a_stage_is_silent(workspaces: Path):
    home = workspaces / "experiments"
    with Terminal("--home", str(home), "--root", str(home / "silent")) as terminal:
        terminal.until("44.7k of 150k")
        for _ in range(_MOST_STRETCHES):
            before, seconds = terminal.shown, 2
            written = terminal.read(seconds)
            lines = zip(before.split("\n"), terminal.shown.split("\n"), strict=False)
            changed = [now for was, now in lines if was != now]
            if len(changed) == 1 and " ▸ running   " in changed[0] and written < seconds * _TICK_BYTES:
                return
        raise AssertionError(f"{written} bytes in {seconds} s, for {changed}")
