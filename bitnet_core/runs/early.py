"""When a training measures its held-out loss for the second time: early enough to tell if the student learns."""

import math

SHARE = 0.1
"""Of all steps."""
LEAST = 5
"""Fewer steps show nothing."""


def early_steps(steps: float, checkpoint_interval: float) -> int | None:
    """How many steps after its first evaluation a training of `steps` measures again, if nothing else has by then.

    None where a checkpoint is about as near, or the end.
    """
    early = math.ceil(SHARE * steps)
    return early if LEAST <= early <= checkpoint_interval / 2 else None
