"""When a training measures its held-out loss besides at its checkpoints, its flip and its end: by counts alone.

Neither a clock nor a restart can move it.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHANGED = "changed"
"""What the evaluation is made for with which a training goes on under other settings: it counts from there."""
FRESH = ("start", "ternary", CHANGED)
"""What the evaluations are made for before which nothing is known yet of the student, or of its present settings."""
SHARE = 0.1
"""Of all steps."""
LEAST = 5
"""Fewer steps show nothing."""
COST = 0.1
"""The steps in which an evaluation's time would pass are at most this share of those before it ..."""
SPARSEST = 1 / 3
"""... but evaluations are never further apart than this share of all steps."""
FORWARD = 1 / 3
"""The time to read a token without learning from it, as a share of the time with it."""


@dataclass(frozen=True)
class Cadence:
    """Steps from one evaluation to the next, if nothing else has measured by then; None: wait for something else."""

    early: int | None = None
    """After one that is `FRESH`."""
    every: int | None = None
    """After any other."""

    @classmethod
    def of(cls, steps: float, checkpoint_interval: float, held_out: float, tokens_a_step: float) -> "Cadence":
        """Of a training of `steps`, with these numbers of supervised tokens: held out, and trained on in a step.

        A tenth of the steps after a fresh one. After any other as well, unless that would cost too much. None where
        a checkpoint, which is measured too, is about as near; or the end.
        """
        tenth = max(LEAST, math.ceil(SHARE * steps))
        cost = held_out * FORWARD / tokens_a_step
        every = max(tenth, min(math.ceil(cost / COST), math.ceil(SPARSEST * steps)))
        most = min(checkpoint_interval, steps) / 2
        return cls(*(gap if gap <= most else None for gap in (tenth, every)))

    def after(self, when: str) -> int | None:
        """Steps to the next evaluation after one that was made for `when`."""
        return self.early if when in FRESH else self.every

    def times(self, steps: int, checkpoint_interval: int) -> int:
        """About how many evaluations a training of `steps` makes, without those around its flip."""
        between = min(checkpoint_interval, self.every or checkpoint_interval)
        return 2 + (steps - 1) // between

    def due(self, last: Mapping[str, Any], step: int) -> str | None:
        """What the evaluation is made for that is due at `step`, if one is; `last` is the one before."""
        gap = self.after(last["when"])
        if gap is None or step - last["step"] < gap:
            return None
        return "early" if last["when"] in FRESH else "regular"
