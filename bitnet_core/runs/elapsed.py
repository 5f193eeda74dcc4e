"""How long runs take, and for how long an active one has reported nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bitnet_core.runs import clock
from bitnet_core.runs.clock import Moment
from bitnet_core.runs.record import ACTIVE, RunRecord


@dataclass
class Elapsed:
    """Asked again and again: when an event came is known by the run's own time, from the second one on."""

    wall: Callable[[], float] = field(default_factory=lambda: time.time)  # which a picture has made stand still
    _told: dict[str, tuple[float | None, float]] = field(default_factory=dict)
    """The newest event of each active run, and after how many seconds of the run it came."""

    def of(self, record: RunRecord, state: str, newest: float | None) -> tuple[float | None, float]:
        """How long a run took, or has taken so far, and for how long it has been silent, in seconds.

        `newest` is when its last event was. The silence moves once a minute: sentences are made of it.
        """
        if record.started is None:
            return None, 0.0
        seconds = record.seconds(Moment(self.wall(), clock.now(record.boot_id).uptime) if state in ACTIVE else None)
        if seconds is None or state not in ACTIVE or record.ended is not None:
            return seconds, 0.0
        known = self._told.get(record.id)
        if known is None:  # when it came can only be told by the wall clock, which may have been put forward since
            known = self._told[record.id] = newest, min((newest or record.started) - record.started, seconds)
        elif known[0] != newest:
            known = self._told[record.id] = newest, seconds
        return seconds, max(0.0, seconds // 60 * 60 - known[1])
