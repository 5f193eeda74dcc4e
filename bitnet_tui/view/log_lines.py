"""Events as lines of the log. Events that the screen shows elsewhere give none."""

import time

from bitnet_core.runs.event_words import describe, mark
from bitnet_core.runs.events import Event

_ELSEWHERE = ("progress", "metric", "trace")


def of_event(event: Event) -> list[str]:
    """The lines of one event, the first with the local time, the others indented."""
    text = "" if event.kind in _ELSEWHERE else describe(event)
    if not text:
        return []
    first, *others = text.split("\n")
    return [f"{_clock(event.t)} {mark(event)} {first}", *(f"{'':10} {other}" for other in others)]


def _clock(moment: float) -> str:
    try:
        return time.strftime("%H:%M:%S", time.localtime(moment))
    except (OverflowError, OSError, ValueError):
        return "--:--:--"
