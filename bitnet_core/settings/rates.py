"""Learning rates that are most likely a mistake: training runs with them, but the student learns little."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import significant

_PEAK, _END = "LR", "SCHEDULER_ETA_MIN"
_HIGHEST = 0.02
"""In one step Adam moves a weight by about the learning rate: at this one, by the standard deviation of a new
student's weights."""


def doubted(values: Mapping[str, Any], written: Callable[[str], str]) -> Iterator[str]:
    """Sentences about the rates; `written` says how a setting is set and where."""
    peak, end = values[_PEAK], values[_END]
    if not isinstance(peak, float) or not isinstance(end, float):
        return
    if why := too_high(peak):
        yield f"{written(_PEAK)} is {why}."
    if peak <= end:
        yield f"{written(_PEAK)} is not above {written(_END)}, so the learning rate does not fall."


def too_high(peak: float) -> str:
    """How far a peak learning rate is above the default if training will probably diverge with it; else empty."""
    usual = REGISTRY[_PEAK].default
    if peak < _HIGHEST:
        return ""
    return f"{significant(peak / float(usual), 2)} times the default of {usual}, so training will probably diverge"
