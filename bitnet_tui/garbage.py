"""When Python looks for cyclic garbage: at a few objects while somebody works, and at the rest while nobody does.

Each look holds the event loop. Python's own moments for it come in the middle of work, and with a long run open one
took a quarter of a second.
"""

import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitnet_tui.shell import Shell

_LOADED_SECONDS = 5.0
"""After so long, what the first screen needs has been imported."""
_YOUNG = 5_000
"""Objects between two looks at those that are new: about 4 ms. The old ones wait for a rest."""
_STEPS = 5
"""Looks at new objects between two at those that outlived one."""
_NEVER = 1_000_000
_REST_SECONDS, _LONG_SECONDS = 5.0, 600.0


def collect_gently(app: "Shell") -> None:
    """Do so in this app, which has its process for itself."""
    app.set_timer(_LOADED_SECONDS, in_small_steps)
    app.set_interval(_REST_SECONDS, AtRest(lambda: app.idle_seconds).look)


def in_small_steps() -> None:
    """From now on look at new objects alone, and never at those that are there: most of them are of modules."""
    gc.freeze()
    gc.set_threshold(_YOUNG, _STEPS, _NEVER)


class AtRest:
    """Looks once in each rest at what was made since the last one, and now and then in a long one at all objects."""

    def __init__(self, idle_seconds: Callable[[], float], clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds, self._clock = idle_seconds, clock
        self._looked = clock()

    def look(self) -> None:
        """Call it every few seconds."""
        idle, since = self._idle_seconds(), self._clock() - self._looked
        if idle < _REST_SECONDS or since <= min(idle, _LONG_SECONDS):
            return
        if idle >= _LONG_SECONDS:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._looked = self._clock()
