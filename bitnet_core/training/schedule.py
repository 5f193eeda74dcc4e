"""Learning rate and weight decay of a step. Pure functions; there is no state to restore."""

import math
from dataclasses import dataclass
from typing import Literal

_WARMUP_SHARE = 0.05
_WARMUP_MOST = 100
# BitNet b1.58 2B4T (arXiv 2504.12285): the first half falls from 1.5e-3 to 8e-4, the second starts at 5e-4.
_FIRST_STAGE_END = 8 / 15
_SECOND_STAGE_START = 1 / 3
Shape = Literal["cosine", "two_stage"]


@dataclass(frozen=True)
class Schedule:
    """Linear to `peak` over 5 % of `steps` (at most 100), then the shape's fall, then `floor`.

    `cosine` is a half cosine from peak to floor. `two_stage` is ternary training's own: a high rate with weight
    decay for the first half of the steps, then a third of the peak, without decay, down to the floor.
    """

    peak: float
    floor: float
    steps: int
    shape: Shape = "cosine"

    @property
    def warmup(self) -> int:
        return min(_WARMUP_MOST, math.ceil(self.steps * _WARMUP_SHARE))

    def rate(self, step: int) -> float:
        """Learning rate of the step after `step` completed ones."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if step >= self.steps:
            return self.floor
        if self.shape == "cosine":
            return _cosine(self.peak, self.floor, step - self.warmup, self.steps - self.warmup)
        if self._in_first_stage(step):
            return _cosine(self.peak, self.peak * _FIRST_STAGE_END, step - self.warmup, self._middle - self.warmup)
        start = max(self.floor, self.peak * _SECOND_STAGE_START)
        return _cosine(start, self.floor, step - self._middle, self.steps - self._middle)

    def decays(self, step: int) -> bool:
        """Whether weight decay acts in the step after `step` completed ones."""
        return self.shape == "cosine" or self._in_first_stage(step)

    @property
    def _middle(self) -> int:
        return max(self.warmup, self.steps // 2)

    def _in_first_stage(self, step: int) -> bool:
        return step < self._middle


def _cosine(start: float, end: float, done: int, total: int) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * done / max(1, total)))
