"""One step of the teacher as the provider told it, and the rule for its probability mass (DESIGN §6).

Pure: no tokenizer, no provider, no files.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

EPSILON = 1e-6
"""The least mass that Other keeps when rounding leaves it none."""
_TOP = math.log1p(-EPSILON)
_GARBAGE_MASS = math.log(1.01)
SENTINEL = -9000.0
"""OpenAI writes -9999.0 for "not in the top list"; nothing real comes near it."""


@dataclass(frozen=True)
class TeacherStep:
    """One sampled token with its candidates; ids are -1 where the provider gives none, bytes are exact."""

    token_id: int
    data: bytes
    logprob: float
    top_ids: tuple[int, ...]
    top_bytes: tuple[bytes, ...]
    top_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class Mass:
    """Logprobs that sum to at most 1 - EPSILON, and the log of what is left."""

    logprobs: tuple[float, ...]
    other: float
    clamped: bool


def fault(step: TeacherStep) -> str | None:
    """Why the step's numbers can't be used, as a short code for the counts; None when they can."""
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


def settle_mass(logprobs: Sequence[float]) -> Mass:
    """Leave logprobs as they are where Other has room; else scale them down so that Other = log EPSILON."""
    total = log_sum_exp(logprobs)
    if total <= _TOP:
        return Mass(tuple(logprobs), math.log(-math.expm1(total)), clamped=False)
    excess = total - _TOP
    return Mass(tuple(logprob - excess for logprob in logprobs), math.log(EPSILON), clamped=True)


def log_sum_exp(logprobs: Sequence[float]) -> float:
    """log of the sum of probabilities, exactly rounded; -inf for none."""
    highest = max(logprobs, default=-math.inf)
    if math.isinf(highest):
        return highest
    return highest + math.log(math.fsum(math.exp(logprob - highest) for logprob in logprobs))
