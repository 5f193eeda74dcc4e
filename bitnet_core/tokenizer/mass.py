"""Where Other's mass is settled: the one rule for a step's probability mass.

A teacher lists the K likeliest candidates of a step; Other is the rest of 1. On its way to the loss a step meets the
rule at most four times:

1. `step_fault`, `first_fault`: garbage (NaN, +inf, a sentinel, a mass above 1.01) rejects the whole sequence.
2. `settle`: Other is 1 minus the listed mass. A list that sums to 1 or more by rounding is scaled to 1 - EPSILON.
3. `round_to_grid`: logprobs are rounded for storage.
4. `rebalance`, `rebalance_lists`: rounded candidates and Other are scaled alike, so that they sum to 1 again.

Shapes: N steps, K candidates padded with -inf; M candidates of all rows, end to end. Logprobs are natural logs.
It must not know files, tokenizers or providers; it lies here because teachers check their first answer by it too.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitnet_core.tokenizer.arrays import Bool, Float32, Float64, Int64
from bitnet_core.tokenizer.steps import Completion, TeacherStep

EPSILON = 1e-6
"""The mass that Other keeps when rounding leaves it none."""
_MOST_LISTED = math.log1p(-EPSILON)
_GARBAGE_MASS = math.log(1.01)
SENTINEL = -9000.0
"""OpenAI writes -9999.0 for "not in the top list"; no real logprob comes near it."""
SUM_TOLERANCE = 1e-3
"""Stored float32 logprobs of at most a few hundred candidates sum to 1 within this."""

# The storage grid: steps of a logprob by how likely the candidate is.
_FINE, _MIDDLE, _COARSE = 2048.0, 512.0, 64.0
_LIKELY, _UNLIKELY = np.log(0.1), np.log(0.01)
_MOST_MASS_LOST = 5e-4


def log_sum_exp(logprobs: Sequence[float]) -> float:
    """log of the sum of probabilities, exactly rounded; -inf for an empty sum."""
    highest = max(logprobs, default=-math.inf)
    if math.isinf(highest):
        return highest
    return highest + math.log(math.fsum(math.exp(logprob - highest) for logprob in logprobs))


# -- garbage ---------------------------------------------------------------------------------------------


def step_fault(step: TeacherStep) -> str | None:
    """Why a step's numbers are unusable, as a short code for the counts; None if they are usable."""
    if not step.top_logprobs:
        return "no_candidates"
    for logprob in (step.logprob, *step.top_logprobs):
        if math.isnan(logprob):
            return "nan_logprob"
        if logprob == math.inf:
            return "infinite_logprob"
        if logprob <= SENTINEL:
            return "sentinel_logprob"
    if step.logprob > _GARBAGE_MASS or log_sum_exp(step.top_logprobs) > _GARBAGE_MASS:
        return "mass_above_one"
    return None


_IN_WORDS = {
    "nan_logprob": "a logprob that is no number",
    "sentinel_logprob": "a placeholder such as -9999 instead of a logprob",
    "mass_above_one": "probabilities that add up to more than 1",
}


def fault_words(fault: str) -> str:
    """A fault of a step or a text as a person reads it."""
    return _IN_WORDS.get(fault, fault.replace("_", " "))


def first_fault(completion: Completion) -> str | None:
    """The `step_fault` of the first unusable step; None if every step is usable."""
    tops_NK, top_NK, own_N = completion.tops_NK, completion.top_logprobs_NK, completion.logprobs_N
    listed_NK = tops_NK >= 0
    with np.errstate(invalid="ignore", over="ignore"):
        suspect_N = ~listed_NK.any(axis=1) | ~(own_N > SENTINEL) | (own_N > _GARBAGE_MASS)
        suspect_N |= (listed_NK & ~((top_NK > SENTINEL) & (top_NK < math.inf))).any(axis=1)
        suspect_N |= np.exp(top_NK, where=listed_NK, out=np.zeros_like(top_NK)).sum(axis=1) > 1.0099
    for row in np.flatnonzero(suspect_N):
        reason = step_fault(completion.step(int(row)))
        if reason is not None:
            return reason
    return None


def text_fault(completion: Completion, text: bytes) -> str | None:
    """Why an answer of this text can't become a sequence: it is empty, or a token before its end has no text."""
    if not text:
        return "empty_completion"
    spellings = completion.table.spellings
    return None if all(spellings[number] for number in completion.sampled_N[:-1].tolist()) else "control_token"


# -- Other -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mass:
    """Logprobs of every step that sum to at most 1 - EPSILON, and the log of the rest.

    `clamped_N` marks the steps that had to be scaled down.
    """

    logprobs_NK: Float64
    other_N: Float64
    clamped_N: Bool


def settle(logprobs_NK: Float64) -> Mass:
    """Other of each step. Logprobs that leave it room stay bit for bit; others are scaled so that it is EPSILON."""
    total_N = _log_sum(logprobs_NK)
    clamped_N = total_N > _MOST_LISTED
    excess_N = np.where(clamped_N, total_N - _MOST_LISTED, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        other_N = np.where(clamped_N, math.log(EPSILON), np.log(-np.expm1(np.minimum(total_N, _MOST_LISTED))))
    settled_NK = logprobs_NK - excess_N[:, None] if clamped_N.any() else logprobs_NK
    return Mass(settled_NK, other_N, clamped_N)


def _log_sum(logprobs_NK: Float64) -> Float64:
    highest_N1 = logprobs_NK.max(axis=1, keepdims=True, initial=-1e300)
    with np.errstate(divide="ignore"):  # a row without candidates
        total_N: Float64 = highest_N1[:, 0] + np.log(np.exp(logprobs_NK - highest_N1).sum(axis=1))
    return total_N


# -- storage ---------------------------------------------------------------------------------------------


def round_to_grid(logprobs_NK: Float64, other_N: Float64) -> tuple[Float32, Float32]:
    """Round for storage, so that shards compress. Sorted rows stay sorted; -inf stays -inf.

    The first candidate is kept within 0.00025; others and Other within 0.00025 above a probability of 0.1, within
    0.001 above 0.01, and within 0.008 below. A step whose sum would change by more than 0.0005 is stored unrounded.
    """
    both = np.column_stack([logprobs_NK, other_N])
    grid = np.where(both > _LIKELY, _FINE, np.where(both > _UNLIKELY, _MIDDLE, _COARSE))
    if logprobs_NK.shape[1]:
        grid[:, 0] = _FINE
    with np.errstate(invalid="ignore"):
        near = np.minimum(np.round(both * grid) / grid, 0.0)
    near = np.where(np.isfinite(both), near, both)
    near[:, :-1] = np.minimum.accumulate(near[:, :-1], axis=1)
    off_N = np.abs(np.exp(near).sum(axis=1) - np.exp(both).sum(axis=1)) > _MOST_MASS_LOST
    near[off_N] = both[off_N]
    stored = near.astype(np.float32)
    return stored[:, :-1], stored[:, -1]


def round_sampled(logprobs_N: Float64) -> Float32:
    """Round the sampled tokens' own logprobs for storage, within 0.00025."""
    return np.minimum(np.round(logprobs_N * _FINE) / _FINE, 0.0).astype(np.float32)


def rebalance(logprobs_NK: Float64, other_N: Float64) -> Mass:
    """Scale rounded logprobs and Other alike, so that each step sums to 1."""
    excess_N = _log_sum(np.column_stack([logprobs_NK, other_N]))
    return Mass(logprobs_NK - excess_N[:, None], other_N - excess_N, np.zeros(len(other_N), np.bool_))


def rebalance_lists(logprobs_M: Float64, owner_M: Int64, other_N: Float64) -> tuple[Float64, Float64]:
    """As `rebalance`, for lists of any length: candidate m belongs to step `owner_M[m]`."""
    excess_N = np.log(total_mass(logprobs_M, owner_M, other_N))
    return logprobs_M - excess_N[owner_M], other_N - excess_N


def total_mass(logprobs_M: Float64, owner_M: Int64, other_N: Float64) -> Float64:
    """Probability of each step's candidates and Other together."""
    listed_N = np.bincount(owner_M, np.exp(logprobs_M), minlength=len(other_N)).astype(np.float64)
    return listed_N + np.exp(other_N)


def give_to_other(other_N: Float64, owner_M: Int64, logprobs_M: Float64) -> None:
    """Add the mass of candidates that are left out to their steps' Other, in place."""
    np.logaddexp.at(other_N, owner_M, logprobs_M)
