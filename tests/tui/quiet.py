"""Whether an app writes to its terminal while nothing changes."""

import asyncio
import time

from textual.pilot import Pilot

from tests.tui.pilots import shown

QUIET_SECONDS = 1.3
"""Longer than a blink of Textual's cursor (0.5 s) and than the time between two looks at the files (1 s)."""


async def is_quiet(pilot: Pilot[None], text: str) -> None:
    """Wait until this text is shown and nothing was written for a while. A slow machine only makes it wait longer."""
    written: list[object] = []
    # Without a terminal, Textual drops what is drawn here.
    pilot.app._display = lambda _, drawing: written.append(drawing)  # type: ignore[method-assign]
    deadline = time.monotonic() + 30
    try:
        while True:
            before = len(written)
            await asyncio.sleep(QUIET_SECONDS)
            if text in shown(pilot) and len(written) == before:
                return
            assert time.monotonic() < deadline, "still being redrawn"
    finally:
        del pilot.app._display
