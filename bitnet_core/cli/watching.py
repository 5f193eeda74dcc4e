"""How a run that is watched is doing, said in words when that changes."""

import time
from collections.abc import Callable

from bitnet_core.errors import BitnetError
from bitnet_core.runs.around import machine
from bitnet_core.runs.events import Event
from bitnet_core.runs.health import MARKS, Finding
from bitnet_core.runs.record import ACTIVE, Run
from bitnet_core.runs.stage_health import health
from bitnet_core.runs.vitals import Plan, VitalSigns
from bitnet_core.text import flat

_SECONDS = 60.0
"""While only figures change, they are said this often."""
_LOOK_SECONDS = 5.0


class HealthLines:
    """Takes a run's events, and says how it is doing whenever `look` is called and something has changed."""

    def __init__(self, run: Run, say: Callable[[str], object], now: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._say = say
        self._now = now
        self._signs = VitalSigns()
        self._heard = self._looked = self._said_at = now()
        self._new = True
        self._said: tuple[Finding, ...] = ()

    def feed(self, event: Event) -> None:
        self._signs.feed(event)
        self._heard, self._new = self._now(), True

    def look(self) -> None:
        """Say what has changed. A run whose record is gone, or can't be read, is told of elsewhere."""
        now = self._now()
        if not self._new and now - self._looked < _LOOK_SECONDS:
            return
        self._new, self._looked = False, now
        try:
            record = self._run.record()
            state = self._run.state(record)
        except BitnetError:
            return
        around = machine(self._run.path.parents[1], record.host)
        silent = now - self._heard if state in ACTIVE else 0.0
        found = health(record.stage, state, self._signs.view(), Plan.of(record.settings), around, silent)
        if _kinds(found) != _kinds(self._said) or (found != self._said and now - self._said_at >= _SECONDS):
            self._said, self._said_at = found, now
            for finding in found:
                words = " ".join(filter(None, (finding.words, finding.advice)))
                self._say(f"{MARKS[finding.level]} {flat(words)}")


def _kinds(found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(one.level, one.code) for one in found]
