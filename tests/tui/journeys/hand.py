"""One who uses the app by keys alone, or by the mouse alone."""

from collections.abc import Callable, Sequence

import pytest
from textual.pilot import Pilot

from tests.tui.pilots import click_on, settled, until

by_each = pytest.mark.parametrize("by", ["keys", "mouse"])


class Hand:
    """Acts in one app; another app may be open as well."""

    def __init__(self, pilot: Pilot[None], by: str) -> None:
        self._pilot, self._by_mouse = pilot, by == "mouse"

    async def do(self, keys: Sequence[str], *cells: str, last: bool = False) -> None:
        """Press these keys; or click at the cell that shows each of these words, the lowest one if `last`."""
        with self._pilot.app._context():
            if self._by_mouse:
                for cell in cells:
                    await click_on(self._pilot, cell, last=last)
            else:
                await self._pilot.press(*keys)
                await settled(self._pilot)

    async def sees(self, holds: Callable[[], bool]) -> None:
        """Wait until something is shown."""
        with self._pilot.app._context():
            await until(self._pilot, holds)
