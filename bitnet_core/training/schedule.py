"""Learning rate and weight decay of each step. Pure functions of the step: there is no state to restore."""

import math
from dataclasses import dataclass

from bitnet_core.settings.values import RateOptions

_WARMUP_SHARE = 0.05
_WARMUP_MOST = 100
# BitNet b1.58 2B4T (arXiv 2504.12285): the first stage falls from 1.5e-3 to 8e-4, the second starts at 5e-4.
_FIRST_STAGE_END = 8 / 15
_SECOND_STAGE_START = 1 / 3


@dataclass(frozen=True)
class Schedule:
    """Linear to the peak over 5 % of the steps (at most 100), then the shape's fall, then the floor.

    `cosine` is a half cosine from peak to floor. `two_stage` is the schedule of BitNet b1.58 2B4T: a high rate with
    weight decay for the first half of the steps, then a third of the peak without decay, down to the floor.
    """

    options: RateOptions
    total_steps: int

    @property
    def steps(self) -> int:
        """Steps until the floor."""
        return self.total_steps if self.options.steps is None else self.options.steps

    @property
    def warmup(self) -> int:
        return min(_WARMUP_MOST, math.ceil(self.steps * _WARMUP_SHARE))

    def rate(self, step: int) -> float:
        """Learning rate of the step after `step` completed ones."""
        peak, floor = self.options.peak, self.options.floor
        if step < self.warmup:
            return peak * (step + 1) / self.warmup
        if step >= self.steps:
            return floor
        if self.options.shape == "cosine":
            return _cosine(peak, floor, step - self.warmup, self.steps - self.warmup)
        if self._in_first_stage(step):
            return _cosine(peak, peak * _FIRST_STAGE_END, step - self.warmup, self._middle - self.warmup)
        start = max(floor, peak * _SECOND_STAGE_START)
        return _cosine(start, floor, step - self._middle, self.steps - self._middle)

    def decays(self, step: int) -> bool:
        """Whether weight decay acts in the step after `step` completed ones."""
        return self.options.shape == "cosine" or self._in_first_stage(step)

    @property
    def _middle(self) -> int:
        return max(self.warmup, self.steps // 2)

    def _in_first_stage(self, step: int) -> bool:
        return step < self._middle


def _cosine(start: float, end: float, done: int, total: int) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done / max(1, total)))
