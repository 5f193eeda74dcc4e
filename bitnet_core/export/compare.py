"""Two models' distributions over the same steps, as figures. Pure.

Shapes: T steps, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LEAST_MASS = 1e-9


@dataclass(frozen=True)
class Comparison:
    """How far another program's distributions are from ours. Differences are of logits or of logprobs, in nats."""

    steps: int
    max_difference: float
    mean_difference: float
    mean_kl: float
    """KL(ours || theirs) in nats a step; tokens that they didn't tell count as one."""
    agreement: float
    """The share of steps with the same most likely token."""
    decided_steps: int
    """Those whose margin between the two most likely tokens exceeds the noise."""
    decided_agreement: float | None
    """The share among them; None without such a step."""
    rounded_kl: float | None = None
    """KL(ours with inputs rounded as theirs are || theirs) in nats a step; None if both round alike."""


def compare(
    ours_TV: NDArray[np.float32], theirs_TV: NDArray[np.float32], rounded_TV: NDArray[np.float32] | None = None
) -> Comparison:
    """Compare logits or logprobs. Theirs may be NaN where they were not reported.

    `rounded_TV` are ours with inputs rounded as theirs are: a margin has to exceed the noise of that.
    """
    ours, theirs = ours_TV.astype(np.float64), theirs_TV.astype(np.float64)
    noise_T = None if rounded_TV is None else noise(ours_TV, rounded_TV)
    difference = np.abs(ours - theirs)
    same = same_top(ours, theirs)
    decided = margins(ours) > (0.0 if noise_T is None else noise_T)
    return Comparison(
        steps=len(ours),
        max_difference=float(np.nanmax(difference)),
        mean_difference=float(np.nanmean(difference)),
        mean_kl=float(_divergence(ours, theirs).mean()),
        agreement=float(same.mean()),
        decided_steps=int(decided.sum()),
        decided_agreement=float(same[decided].mean()) if decided.any() else None,
        rounded_kl=None if rounded_TV is None else float(_divergence(rounded_TV.astype(np.float64), theirs).mean()),
    )


def same_top(ours_TV: NDArray[Any], theirs_TV: NDArray[Any]) -> NDArray[np.bool_]:
    """At which steps [T] both have the same most likely token."""
    found: NDArray[np.bool_] = ours_TV.argmax(axis=1) == np.nanargmax(theirs_TV, axis=1)
    return found


def margins(values_TV: NDArray[Any]) -> NDArray[np.float64]:
    """How far the two most likely tokens of each step [T] are apart, in nats."""
    highest = np.partition(values_TV, -2, axis=1)[:, -2:].astype(np.float64)
    apart: NDArray[np.float64] = highest[:, 1] - highest[:, 0]
    return apart


def _divergence(ours_TV: NDArray[np.float64], theirs_TV: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(ours || theirs) of each step [T], all tokens that theirs doesn't tell being one."""
    told_TV = ~np.isnan(theirs_TV)
    # Logprobs stay as they are: with all tokens the sum is 1.
    ours = ours_TV - _log_sum_exp(ours_TV)
    theirs = theirs_TV - _log_sum_exp(theirs_TV) if told_TV.all() else theirs_TV
    p_TV, q_TV = np.exp(ours), np.where(told_TV, np.exp(theirs), 0.0)
    found: NDArray[np.float64] = np.where(told_TV, p_TV * (ours - np.where(told_TV, theirs, 0.0)), 0.0).sum(axis=1)
    if not told_TV.all():
        p_T = np.where(told_TV, 0.0, p_TV).sum(axis=1)
        q_T = np.maximum(1 - q_TV.sum(axis=1), _LEAST_MASS)
        found += np.where(p_T > 0, p_T * (np.log(np.maximum(p_T, _LEAST_MASS)) - np.log(q_T)), 0.0)
    return found


def _log_sum_exp(values_TV: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = values_TV.max(axis=1, keepdims=True)
    total: NDArray[np.float64] = highest + np.log(np.exp(values_TV - highest).sum(axis=1, keepdims=True))
    return total


def noise(one_TV: NDArray[np.float32], other_TV: NDArray[np.float32]) -> NDArray[np.float64]:
    """The margin [T] that two logprobs of a step can lose: twice the largest difference of any."""
    spread: NDArray[np.float64] = 2 * np.abs(one_TV.astype(np.float64) - other_TV.astype(np.float64)).max(axis=1)
    return spread
