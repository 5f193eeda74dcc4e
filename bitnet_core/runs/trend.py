"""Where the held-out loss of a training goes, and whether it has recovered from the flip. Pure, on its vitals."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bitnet_core.runs.cadence import CHANGED
from bitnet_core.runs.vitals import Evaluation, Vitals, is_since_flip
from bitnet_core.text import roughly, significant

TREND = 6
"""The slope of the held-out loss is that of a line through this many evaluations."""
RISES = 3
"""So many evaluations in a row, each above the one before, are a trend and not a fluctuation."""
RISEN = 0.005
"""A smaller rise, as a share of the loss, is none."""
WORSE = 1.02
"""A held-out loss that is this many times the one before the first step means a worse student."""
RUINED = 1.5
"""One that is this many times as high means a ruined student."""
RECOVERY = 0.5
"""A student that has used this share of its tokens after the flip and is still above the loss before it is late."""
_LEAST_PACE = 0.0095
LEVEL_SHARE = 0.02
"""A held-out loss that changes by less than this share an hour is level."""
OLD = 600.0
"""After this many seconds of training, a trend says when it was measured: the next evaluation may break it."""


@dataclass(frozen=True)
class Trend:
    """The evaluations under the settings that a training has now, and where they go; None if that is not known."""

    evaluations: tuple[Evaluation, ...]
    direction: Literal["falls", "level", "rises"] | None = None
    words: str = ""
    """`falls 0.3 a minute`, `fell from 12.4 to 6.86`, `level`, or empty."""
    of_two: bool = False
    """Whether only an evaluation and the one before the first step tell it: it may be old, and has no pace."""


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The slope of the least-squares line through the points; None if all have the same x."""
    if len({x for x, _ in points}) < 2:  # by themselves: a rounded mean would leave them a spread
        return None
    middle_x, middle_y = (statistics.fmean(values) for values in zip(*points, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread


def counts_from(whens: Sequence[str]) -> int:
    """The place of the evaluation made for the last change of settings, by what each was made for; 0 without one."""
    return max((place for place, when in enumerate(whens) if when == CHANGED), default=0)


def since_change(vitals: Vitals) -> tuple[Evaluation, ...]:
    """The evaluations under the settings that the training has now."""
    found, change = vitals.evaluations, vitals.changed
    if change is None:
        return found
    return tuple(one for one in found[counts_from([one.when for one in found]) :] if change.governs(one))


def comparable(vitals: Vitals) -> tuple[Evaluation, ...]:
    """The evaluations whose losses tell a trend: since the flip, which raises the loss, or all before it.

    Under the settings that the training has now; where there are none yet, the last one under the old ones.
    """
    found, under_them = vitals.evaluations, since_change(vitals)
    if vitals.flip_at is not None:
        found = tuple(one for one in found if is_since_flip(one, vitals.flip_at))
    return tuple(one for one in found if one in under_them) or found[-1:]


def rises(losses: Sequence[float]) -> int:
    """How many times in a row, up to the last one, a loss was above the one before; 0 for a negligible rise."""
    pairs = itertools.pairwise(reversed(losses))
    found = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] > pair[1], pairs))
    return found if found and losses[-1] > losses[-1 - found] * (1 + RISEN) else 0


def unsettled(vitals: Vitals) -> bool:
    """Whether it has flipped, and the held-out loss has not been back where it was before."""
    before, lowest = vitals.before_flip, vitals.best_since_flip
    return before is not None and (lowest is None or lowest.loss > before.loss * (1 + RISEN))


def is_late(since_flip: float, left_at_flip: float) -> bool:
    """Whether a student has had enough tokens since its flip, of those left then, to have recovered from it."""
    return left_at_flip > 0 and since_flip >= RECOVERY * left_at_flip


def stays_raised(losses: Sequence[float], first: float | None, *, late: bool) -> bool:
    """Whether a flip no longer explains that the held-out loss is above the one before it.

    `losses` are those since the flip. It explains a rise for a while, but none that goes on or goes far.
    """
    return late or rises(losses) >= RISES or (first is not None and losses[-1] > first * RUINED)


def way_since_change(vitals: Vitals) -> tuple[Literal["fell", "rose", ""], float]:
    """Where the held-out loss went since the last change of settings, and from what; empty beyond a flip."""
    before, last = vitals.changed.measured if vitals.changed else None, vitals.evaluations[-1]
    if before is None or is_since_flip(before, vitals.flip_at) is not is_since_flip(last, vitals.flip_at):
        return "", math.nan
    if last.loss < before.loss * (1 - RISEN):
        return "fell", before.loss
    return "rose" if last.loss > before.loss * (1 + RISEN) else "", before.loss


def is_worse(loss: float, first: float, before_flip: float | None = None, *, ended: bool) -> bool:
    """Whether a held-out loss is above the first one: at the end by what shows, until then by more than it wavers.

    Until then, one that was not worse before its flip is not worse because of it.
    """
    if ended:
        return loss > first and significant(loss) != significant(first)
    return loss > first * WORSE and (before_flip is None or before_flip > first * WORSE)


def trend(vitals: Vitals) -> Trend:
    """Where the held-out loss goes."""
    found = comparable(vitals)
    if len(found) < 2:
        return Trend(found)
    recent = [one for one in found[-TREND:] if one.step != 0]  # the fall in the first steps tells no pace
    if len(recent) < 2:
        return _since_the_start(found)
    change = slope([(one.t, one.loss) for one in recent])
    if change is None:
        return Trend(found)
    last = found[-1].loss
    fluctuates = change > 0 and last <= min(one.loss for one in recent) * (1 + RISEN)
    if fluctuates or abs(change) * 3600 <= LEVEL_SHARE * abs(last):
        return Trend(found, "level", "level")
    direction: Literal["falls", "rises"] = "falls" if change < 0 else "rises"
    return Trend(found, direction, f"{direction} {_pace(abs(change))}")


def old(measured: Evaluation, vitals: Vitals) -> str:
    """`, measured 25 min ago` of an evaluation that much training has followed; else nothing."""
    since = vitals.reports[-1].t - measured.t if vitals.reports else 0.0
    return f", measured {roughly(since)} ago" if since >= OLD else ""


def _since_the_start(found: tuple[Evaluation, ...]) -> Trend:
    """The trend of an evaluation and the one before the first step."""
    first, last = found[0].loss, found[-1].loss
    way = f"from {significant(first)} to {significant(last)}"
    if abs(last - first) <= abs(first) * RISEN:
        return Trend(found, "level", "level")
    if last < first:
        return Trend(found, "falls", f"fell {way}", of_two=True)
    return Trend(found, "rises", f"rose {way}", of_two=True)


def _pace(per_second: float) -> str:
    """`0.02 a minute`, `0.3 an hour`: in the shortest time in which it is at least 0.01."""
    units = ((60, "a minute"), (3600, "an hour"), (86400, "a day"))
    seconds, name = next((unit for unit in units if per_second * unit[0] >= _LEAST_PACE), units[-1])
    value = per_second * seconds
    return f"{significant(value, 1 if value < 1 else 2)} {name}"
