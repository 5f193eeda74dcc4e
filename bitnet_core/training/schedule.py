"""The learning rate of a step: a short warm-up, then a cosine. A pure function; there is no state to restore."""

import math
from dataclasses import dataclass

_WARMUP_SHARE = 0.05
_WARMUP_MOST = 100


@dataclass(frozen=True)
class CosineSchedule:
    """Linear to `peak` over 5 % of `steps` (at most 100), then a half cosine to `floor`, then `floor`."""

    peak: float
    floor: float
    steps: int

    @property
    def warmup(self) -> int:
        return min(_WARMUP_MOST, math.ceil(self.steps * _WARMUP_SHARE))

    def rate(self, step: int) -> float:
        """Learning rate of the step after `step` completed ones."""
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        if step >= self.steps:
            return self.floor
        share = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.floor + (self.peak - self.floor) * 0.5 * (1 + math.cos(math.pi * share))
