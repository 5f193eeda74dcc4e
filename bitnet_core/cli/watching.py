"""How a run that is watched is doing, said in words when that changes."""

import time
from collections.abc import Callable

from msgspec import structs

from bitnet_core.errors import BitnetError
from bitnet_core.runs.around import machine
from bitnet_core.runs.elapsed import Elapsed
from bitnet_core.runs.events import Event, RunFinished
from bitnet_core.runs.finding import MARKS, Finding, one_cure
from bitnet_core.runs.judge import Judge
from bitnet_core.runs.record import ACTIVE, Run
from bitnet_core.text import finite, flat

_SECONDS = 60.0
"""While only figures change, they are said this often."""
_LOOK_SECONDS = 5.0


class HealthLines:
    """Takes a run's events, and says how it is doing whenever `look` is called and something has changed."""

    def __init__(
        self,
        run: Run,
        say: Callable[[str], object],
        now: Callable[[], float] = time.monotonic,
        elapsed: Elapsed | None = None,
    ) -> None:
        self._run = run
        self._say = say
        self._now = now
        self._judge, self._elapsed = Judge(run), elapsed or Elapsed()
        self._heard: float | None = None
        """When the newest event was written."""
        self._looked = self._said_at = now()
        self._new = True
        self._kinds: tuple[object, ...] = ()
        """Whether the run was active, and what was told of it, without the figures."""
        self._said: tuple[Finding, ...] = ()

    @property
    def advises(self) -> bool:
        """Whether what was said last advises how to go on."""
        return any(one.advice for one in self._said)

    def feed(self, event: Event) -> None:
        self._judge.feed(event)
        self._heard, self._new = finite(event.t), True

    def shown(self, event: Event) -> Event:
        """The event as it is shown: of an end, what is said of how to go on is said once, see `one_cure`."""
        if not isinstance(event, RunFinished) or not event.error:
            return event
        try:
            found = self._judge.findings(self._run.record(), event.state)
        except BitnetError:
            return event
        return structs.replace(event, error=one_cure(event.error, found))

    def look(self) -> None:
        """Say what has changed. A run whose record is gone, or can't be read, is told of elsewhere."""
        now = self._now()
        if not self._new and now - self._looked < _LOOK_SECONDS:
            return
        self._new, self._looked = False, now
        try:
            record = self._run.record()
            state = self._run.state(record)
            around = machine(self._run.path.parents[1], record.host)
            silent = self._elapsed.of(record, state, self._heard)[1]
            found = self._judge.findings(record, state, around, silent)
        except BitnetError:
            return
        kinds = state in ACTIVE, *((one.level, one.code) for one in found)
        if kinds != self._kinds or (found != self._said and now - self._said_at >= _SECONDS):
            self._kinds, self._said, self._said_at = kinds, found, now
            for finding in found:
                words = " ".join(filter(None, (finding.words, finding.advice)))
                self._say(f"{MARKS[finding.level]} {flat(words)}")
