"""Two models' distributions over the same steps, as figures. Pure.

Shapes: T steps, V vocabulary.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Comparison:
    """How far another program's distributions are from ours. Differences are of logprobs, in nats."""

    steps: int
    max_difference: float
    mean_difference: float
    mean_kl: float
    """KL(ours || theirs)."""
    agreement: float
    """The share of steps with the same most likely token."""
    decided_steps: int
    """Those whose margin between the two most likely tokens exceeds the noise."""
    decided_agreement: float | None
    """The share among them; None without such a step."""


def compare(
    ours_TV: NDArray[np.float32], theirs_TV: NDArray[np.float32], noise_T: NDArray[np.float64] | None = None
) -> Comparison:
    """Compare natural logarithms of probabilities; `noise_T` is what the margin has to exceed, 0 by default."""
    ours, theirs = ours_TV.astype(np.float64), theirs_TV.astype(np.float64)
    difference = np.abs(ours - theirs)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    highest = np.partition(ours, -2, axis=1)[:, -2:]
    margin = highest[:, 1] - highest[:, 0]
    decided = margin > (0.0 if noise_T is None else noise_T)
    return Comparison(
        steps=len(ours),
        max_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        mean_kl=float((np.exp(ours) * (ours - theirs)).sum(axis=1).mean()),
        agreement=float(same.mean()),
        decided_steps=int(decided.sum()),
        decided_agreement=float(same[decided].mean()) if decided.any() else None,
    )


def noise(one_TV: NDArray[np.float32], other_TV: NDArray[np.float32]) -> NDArray[np.float64]:
    """The margin [T] that two logprobs of a step can lose: twice the largest difference of any."""
    spread: NDArray[np.float64] = 2 * np.abs(one_TV.astype(np.float64) - other_TV.astype(np.float64)).max(axis=1)
    return spread
