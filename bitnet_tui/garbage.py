"""When Python looks for cyclic garbage: at few objects while the user works, and at the rest in pauses.

Each look holds the event loop, for as long as there are objects to look at. So those that stay for good are left out,
and nothing keeps those of a screen that was closed.
"""

import gc
import sys
import time
from collections.abc import Callable
from typing import cast

from textual._styles_cache import StylesCache

from bitnet_tui.loading import load_next, modules
from bitnet_tui.rules import Rules
from bitnet_tui.shell import Shell
from bitnet_tui.strips import lighten

lighten()
_LOADED_SECONDS = 5.0
"""After this time, what the first screen needs has been imported."""
_YOUNG = 5_000
"""Objects between two looks at those that are new: about 4 ms."""
_STEPS, _LOOKS = 5, 1
"""Looks at new objects before one at those that outlived them, and such ones before one at all, if no rest comes. All
are those of the open screens, and of closed ones at most what these looks let through."""
_EVERY_SECONDS, _REST_SECONDS, _LONG_SECONDS = 5.0, 1.0, 600.0
_UNUSED_SECONDS, _PAUSE_SECONDS = 2.0, 0.02
"""How long nobody works before modules are imported, and how long keys are taken between two steps of that."""


class Tidying(Shell):
    """The part of the app that looks for garbage in small steps, where the app has its process for itself."""

    _used = False
    """Whether somebody has worked since the last step of loading."""

    def on_mount(self) -> None:
        if not self.is_headless:
            self.call_after_refresh(after_first_paint)
            self._to_load, self._to_parse = modules(), cast("Rules", self.stylesheet).ahead()
            self.set_timer(_UNUSED_SECONDS, self._load)
            self.set_timer(_LOADED_SECONDS, in_small_steps)
            self.set_interval(_EVERY_SECONDS, AtRest(lambda: self.idle_seconds, lambda: self._at_home).look)

    def _load(self) -> None:
        """Import some of what other screens need, and then parse their sheets, as long as nobody works."""
        if self.idle_seconds < _UNUSED_SECONDS:
            self._used = True
            self.set_timer(_UNUSED_SECONDS, self._load)
            return
        if self._used and gc.get_freeze_count():
            gc.collect()  # what is frozen stays, also what closed screens have left
        elif not (load_next(self._to_load) or next(self._to_parse, False)):
            return
        self._used = False
        if self._at_home:
            gc.freeze()  # else the next look goes through all that these have made
        self.set_timer(_PAUSE_SECONDS, self._load)

    @property
    def _at_home(self) -> bool:
        return len(self.screen_stack) == 1


def after_first_paint() -> None:
    """Begin to collect garbage, which `start` has put off, but never among the objects that exist now."""
    gc.freeze()
    gc.enable()


def in_small_steps() -> None:
    """From now on look at new objects, and never at those that are there: they are of modules and of Home."""
    gc.freeze()
    gc.set_threshold(_YOUNG, _STEPS, _LOOKS)


class AtRest:
    """Looks in each rest, and now and then in a long one, at what was made since new modules were there at Home."""

    def __init__(
        self,
        idle_seconds: Callable[[], float],
        at_home: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._idle_seconds, self._at_home, self._clock = idle_seconds, at_home, clock
        self._looked = clock()
        self._modules = 0
        """How many stay. Without new ones nothing more does: of what is at Home, some goes later, and would not."""

    def look(self) -> None:
        """Call it every few seconds."""
        let_go()
        idle, since = self._idle_seconds(), self._clock() - self._looked
        if idle < _REST_SECONDS or since <= min(idle, _LONG_SECONDS):
            return
        gc.collect()
        if self._at_home() and len(sys.modules) > self._modules:
            gc.freeze()
            self._modules = len(sys.modules)
        self._looked = self._clock()


def let_go() -> None:
    """Drop what Textual keeps of widgets that are gone: by an `lru_cache` on a method, the lines of a thousand."""
    StylesCache.get_inner_outer.cache_clear()
