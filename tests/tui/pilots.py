"""Drives the app in tests: waits until it is idle and reads what is on the screen."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from textual import events
from textual.app import App
from textual.pilot import Pilot

from bitnet_tui.view.spans import unstyled
from bitnet_tui.widgets.painted import Painted
from tests.tui.drawing import draw

SIZES = [(120, 36), (80, 24)]


async def settled(pilot: Pilot[None]) -> None:
    """Wait until the screen is furnished and every worker has reported."""
    for _ in range(3):
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    draw(pilot.app)


async def until(pilot: Pilot[None], holds: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds that another process or thread brings about; at once when it does already."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"It does not hold after {seconds} s:\n{shown(pilot)}"
        await pilot.pause(0.05)


def shown(pilot: Pilot[None]) -> str:
    """The text on the screen."""
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips)


def words(pilot: Pilot[None]) -> str:
    """The same without line ends and frames, to search for a wrapped sentence."""
    return " ".join(shown(pilot).replace("│", " ").replace("▌", " ").split())


def said(pilot: Pilot[None], selector: str) -> str:
    """The text of a widget of painted lines, as one line of words."""
    lines = pilot.app.screen.query_one(selector, Painted)._lines or ()
    return " ".join(unstyled(line) for line in lines)


async def click_on(pilot: Pilot[None], text: str, *, last: bool = False, times: int = 1) -> None:
    """Click at the cell that shows the beginning of this text, and wait for all that comes of it."""
    await click_at(pilot, text, last=last, times=times)
    await settled(pilot)


async def click_at(pilot: Pilot[None], text: str, *, last: bool = False, times: int = 1) -> None:
    """The same without waiting."""
    lines = shown(pilot).split("\n")
    rows = [row for row, line in enumerate(lines) if text in line]
    assert rows, f"{text!r} is not in\n{shown(pilot)}"
    row = rows[-1 if last else 0]
    await pilot.click(offset=(lines[row].index(text), row), times=times)


def notices(pilot: Pilot[None]) -> list[str]:
    """The notifications on the screen, each as one line of words."""
    lines = shown(pilot).split("\n")
    regions = [toast.region for toast in pilot.app.screen.query("Toast")]
    texts = (" ".join(line[at.x : at.right] for line in lines[at.y : at.bottom]) for at in regions)
    return [" ".join(text.replace("▌", " ").split()) for text in texts]


def files_text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


def burst(app: App[None], keys: Sequence[str]) -> None:
    """Press keys faster than the app takes them."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else None))


async def processed(app: App[None]) -> None:
    """Wait until the app and its widgets have no message left. Textual's pilot waits in vain for a removed widget."""
    idle = 0
    while idle < 5 and app.is_running and not app._exception:
        reached = asyncio.Event()
        app.call_later(reached.set)
        await asyncio.wait_for(reached.wait(), 120)
        waiting = any(one.message_queue_size for one in (app, *app.screen.walk_children(with_self=True)))
        idle = 0 if waiting else idle + 1
        await asyncio.sleep(0.03)
