"""What is most likely a mistake in the learning rates: training runs so, but comes to little."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bitnet_core.settings.registry import REGISTRY
from bitnet_core.text import significant

_PEAK, _END = "LR", "SCHEDULER_ETA_MIN"
_HIGHEST = 0.02
"""Adam moves a weight by about the rate in a step: here by as much as the weights of a new student measure, which
are drawn with this standard deviation."""


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
