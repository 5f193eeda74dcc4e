"""A figure with its 95 % bootstrap interval (percentiles; Efron 1979). Seeded: equal values give equal intervals.

What is resampled is whatever was drawn independently: items of a suite, or whole sequences of a text, never tokens.
Shapes: N items, R resamples.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
RESAMPLES = 1000
_OUTSIDE = 0.05


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


def draws(items: int, seed: int, resamples: int = RESAMPLES) -> Int64:
    """How often each item is in each resample, [R, N]: `draws @ values` are the resampled sums.

    A ratio of sums, or a difference of two models on the same items, uses one result for all of its sums.
    """
    return np.random.default_rng(seed).multinomial(items, np.full(items, 1 / items), size=resamples)


def estimate(value: float, spread_R: Float64) -> Estimate:
    """`value` with the percentiles of its resampled values; those that are not finite have no figure."""
    finite_R = spread_R[np.isfinite(spread_R)]
    if not len(finite_R):
        return Estimate(value, value, value)
    low, high = np.percentile(finite_R, [50 * _OUTSIDE, 100 - 50 * _OUTSIDE])
    return Estimate(value, float(low), float(high))


def mean(values_N: Sequence[float] | Float64, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """The mean of one value per item. ValueError without values."""
    if not len(values_N):
        raise ValueError("a mean needs at least one value")
    values = np.asarray(values_N, np.float64)
    return estimate(float(values.mean()), draws(len(values), seed, resamples) @ values / len(values))


def share(passed_N: Sequence[bool], seed: int, resamples: int = RESAMPLES) -> Estimate:
    """The share of items that passed. ValueError without items.

    If all passed, or none did, every resample is the same and the bootstrap would claim certainty; there the exact
    bound of a proportion is given (Clopper and Pearson 1934): 0.025^(1/N) from the far end.
    """
    found = mean([float(one) for one in passed_N], seed, resamples)
    bound = (_OUTSIDE / 2) ** (1 / len(passed_N))
    if found.value == 1:
        return Estimate(1.0, bound, 1.0)
    return Estimate(0.0, 0.0, 1 - bound) if found.value == 0 else found


def macro_share(groups: Sequence[Sequence[bool]], seed: int, resamples: int = RESAMPLES) -> Estimate:
    """The mean of the groups' shares, each group with the same weight. ValueError without items.

    Items are resampled within their group. Empty groups are left out. A group that passed as a whole, or not at all,
    has no spread; its exact bound is added in quadrature (MOVER, Zou and Donner 2008).
    """
    filled = [group for group in groups if group]
    if len(filled) <= 1:
        return share(filled[0] if filled else [], seed, resamples)
    spread_R = np.zeros(resamples)
    total = 0.0
    for number, group in enumerate(filled):
        values = np.asarray(group, np.float64)
        total += float(values.mean())
        spread_R += draws(len(values), seed + number, resamples) @ values / len(values)
    found = estimate(total / len(filled), spread_R / len(filled))
    below, above = open_ends(filled, len(filled))
    low = found.value - math.hypot(found.value - found.low, below)
    high = found.value + math.hypot(found.high - found.value, above)
    return Estimate(found.value, max(0.0, low), min(1.0, high))


def open_ends(groups: Sequence[Sequence[bool]], parts: int) -> tuple[float, float]:
    """How far below and above the mean of `parts` scores may be for the groups among them that have no spread.

    Where the groups are all the parts, and everything passed or nothing, they count as one group. (0, 0) if each
    group has some spread.
    """
    pooled = [one for group in groups for one in group]
    if len(groups) == parts and len(set(pooled)) == 1:
        groups, parts = [pooled], 1
    alike = [share(group, 0) for group in groups if len(set(group)) == 1]
    return (
        math.hypot(*(one.value - one.low for one in alike)) / parts,
        math.hypot(*(one.high - one.value for one in alike)) / parts,
    )
