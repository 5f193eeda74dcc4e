"""Whether an app writes to its terminal while nothing changes."""

import asyncio

from textual.pilot import Pilot

from tests.tui.pilots import shown, until

QUIET_SECONDS = 1.3
"""Longer than a blink of Textual's cursor (0.5 s) and than the time between two looks at the files (1 s)."""
_MOST_DRAWINGS = 20
"""In how many such times something may be drawn before the screen is at rest; on a slow machine they come late."""


async def is_quiet(pilot: Pilot[None], text: str) -> None:
    """Wait until this text is shown and nothing was written for a while. A slow machine only makes it wait longer."""
    await until(pilot, lambda: text in shown(pilot))
    written: list[object] = []
    # Without a terminal, Textual drops what is drawn here.
    pilot.app._display = lambda _, drawing: written.append(drawing)  # type: ignore[method-assign]
    try:
        for _ in range(_MOST_DRAWINGS):
            before = len(written)
            await asyncio.sleep(QUIET_SECONDS)
            if text in shown(pilot) and len(written) == before:
                return
        raise AssertionError(f"still being redrawn:\n{shown(pilot)}")
    finally:
        del pilot.app._display
