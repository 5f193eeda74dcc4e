"""What the newest reports of a training show by themselves: steps that are not finite, gradient norms, speed.

Pure, as `health.py` is.
"""

import statistics
from collections.abc import Iterator, Sequence

from bitnet_core.runs.finding import Finding, Level
from bitnet_core.runs.trend import RISES
from bitnet_core.runs.vitals import Report, Vitals
from bitnet_core.text import count, number, significant

SPIKE = 5.0
"""A gradient norm of this many times the usual one is a spike. Clipping takes care of one; several are a warning."""
STEADY = 2.0
"""Norms between this part and this many times of the usual one are steady."""
RECENT = 8
"""What happened within this many of the last reports is still going on."""
SPIKES = 2
USUAL_OF = 8
"""With fewer reports, nothing is known to be usual."""
SLOW = 0.4
"""Less than this share of the usual tokens a second is a collapse; an ordinary neighbour costs half."""
NOW_OF = 3
FAR_ABOVE, CLIMBS = 2.0, 2
"""How many times the first report's cross-entropy, and in how many reports in a row, is no fluctuation any more."""


def not_finite(vitals: Vitals) -> Iterator[Finding]:
    """Steps that were refused, going on now."""
    recent = [one for one in vitals.reports[-RECENT:] if one.refused]
    rolled_back, alert = vitals.alerts.get("rolled_back"), vitals.alerts.get("nonfinite")
    unreported = alert is not None and vitals.reports and alert[0].t > vitals.reports[-1].t
    if not recent and not unreported:
        return
    if rolled_back and rolled_back[0].t >= vitals.reports[-RECENT:][0].t:
        yield Finding("bad", rolled_back[0].message, rolled_back[0].advice, "rolled_back")
    elif alert:
        times = f" ({number(alert[1])} times so far)" if alert[1] > 1 else ""
        level: Level = "bad" if len(recent) >= RISES else "warn"
        yield Finding(level, f"{alert[0].message.rstrip('.')}{times}.", alert[0].advice, "nonfinite")
    else:
        skipped = max(vitals.refused, len(recent))
        words = f"{number(skipped)} steps were not finite" if skipped > 1 else "A step was not finite"
        yield Finding("warn", f"{words}, the last before step {number(recent[-1].step)}.", "Lower LR.", "nonfinite")


def _usual(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if len(known) >= USUAL_OF else None


def usual_norm(reports: Sequence[Report]) -> float | None:
    """The median gradient norm; None while nothing is known to be usual."""
    return _usual([one.grad_norm for one in reports])


def is_steady(reports: Sequence[Report]) -> bool:
    """Whether the recent gradient norms are about as large as this run's usually are, however large that is."""
    usual = usual_norm(reports)
    recent = [one.grad_norm for one in reports[-RECENT:]]
    if not usual:
        return False
    return all(norm is not None and usual / STEADY <= norm <= usual * STEADY for norm in recent)


def spiking(reports: Sequence[Report]) -> list[Report]:
    """The recent reports whose gradient norm is far above the usual one."""
    usual = usual_norm(reports)
    recent = reports[-RECENT:] if usual else ()
    return [one for one in recent if one.grad_norm is not None and usual and one.grad_norm > SPIKE * usual]


def spikes(reports: Sequence[Report]) -> Iterator[Finding]:
    """Several gradient norms far above the usual one."""
    found = spiking(reports)
    if len(found) >= SPIKES:
        usual, highest = usual_norm(reports), max(one.grad_norm or 0 for one in found)
        yield Finding(
            "warn",
            f"The gradient norm spiked in {len(found)} of the last {RECENT} reports, to {significant(highest)} "
            f"(usually {significant(usual)}).",
            "If the loss jumps too, lower LR or GRAD_CLIP_NORM.",
        )


def climbing(vitals: Vitals) -> Iterator[Finding]:
    """A cross-entropy that has risen far above its first value before the held-out loss was measured again.

    Only in trainings whose flip or gradual quantisation can't be the reason.
    """
    found = [one for one in vitals.reports if one.ce is not None and one.step is not None]
    ternary = vitals.share is None or vitals.share == 1
    if len(vitals.evaluations) > 1 or vitals.flip_at is not None or not ternary or len(found) <= CLIMBS:
        return
    first, *_, last = found
    if first.ce and last.ce and all((one.ce or 0) > FAR_ABOVE * first.ce for one in found[-CLIMBS:]):
        yield Finding(
            "bad",
            f"Diverging: CE rose from {significant(first.ce)} at step {number(first.step)} to {significant(last.ce)} "
            f"at step {number(last.step)}.",
            "LR is probably too large: stop, lower it and begin again.",
        )


def slow(reports: Sequence[Report]) -> Iterator[Finding]:
    """A collapse of speed."""
    usual = _usual([one.tokens_per_s for one in reports[:-NOW_OF]])
    now = [one.tokens_per_s for one in reports[-NOW_OF:] if one.tokens_per_s is not None]
    if usual and len(now) == NOW_OF and statistics.median(now) < SLOW * usual:
        yield Finding(
            "warn",
            f"Speed has fallen to {count(statistics.median(now))} tokens/s, from {count(usual)}.",
            "Look for another program on this machine, heat, or swapping.",
        )
