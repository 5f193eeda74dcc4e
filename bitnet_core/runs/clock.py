"""Moments on two clocks: the wall clock, which may jump, and the time since boot, which never does.

Between two moments of one boot the time since boot decides; otherwise there is only the wall clock.
"""

import math
import time
from typing import NamedTuple

from bitnet_core import process

_SLACK_SECONDS = 2.0
"""File systems keep the time of a change less exactly than the clocks, which drift apart a little."""


class Moment(NamedTuple):
    """`wall` is in Unix seconds, `uptime` in seconds since boot; None if it is not known or of another boot."""

    wall: float
    uptime: float | None = None

    def until(self, end: "Moment") -> float:
        """Seconds from here to `end`, never negative."""
        if self.uptime is not None and end.uptime is not None and end.uptime >= self.uptime:
            return end.uptime - self.uptime
        return max(0.0, end.wall - self.wall)


def now(boot_id: str) -> Moment:
    """This moment, as it compares with moments of the boot `boot_id`."""
    return Moment(time.time(), process.uptime() if boot_id == process.boot_id() else None)


def reading() -> str:
    """What the wall clock says now; `put_forward_since` compares with it."""
    return f"{process.boot_id()} {time.time() - process.uptime()!r}"


def put_forward_since(before: str) -> float:
    """By how many seconds the wall clock was put forward since that reading, negative if it was put back.

    0 for no more than the two clocks drift apart, and if it is of another boot: what happened meanwhile is not known.
    """
    boot_id, _, told = before.rpartition(" ")
    try:
        booted = float(told)
    except ValueError:
        return 0.0
    if boot_id != process.boot_id() or not math.isfinite(booted):
        return 0.0
    forward = time.time() - process.uptime() - booted
    return forward if abs(forward) > _SLACK_SECONDS else 0.0


def seconds_since_change(changed: float, start: Moment, end: Moment) -> float:
    """Seconds from a change of a file until `end`; `changed` is its time on the wall clock, somewhere after `start`.

    If the clock was set between `start` and `end`, the change may have come before or after that. Of the two times
    since boot that this leaves, one outside start…end is impossible; if both are possible, the later counts.
    """
    if start.uptime is None or end.uptime is None:
        return end.wall - changed
    boots = (start.wall - start.uptime, end.wall - end.uptime)
    """The wall clock's time of the boot, as it was set at the start and as it is set at the end."""
    ages = [end.uptime - (changed - boot) for boot in boots]
    longest = end.uptime - start.uptime
    possible = [age for age in ages if -_SLACK_SECONDS <= age <= longest + _SLACK_SECONDS]
    return max(0.0, min(possible)) if possible else end.wall - changed
