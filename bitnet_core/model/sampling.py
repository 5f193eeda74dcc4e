"""Which token comes next: pure functions of logits. They know no model and no text.

The order is: repetition penalty, temperature, top-k, top-p, min-p; each works on what the one before has left.
Shapes: V vocabulary; everything works on the last dimension.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bitnet_core.errors import UsageError
from bitnet_core.settings.values import Sampling

_FLOAT32 = torch.finfo(torch.float32)


@dataclass(frozen=True, kw_only=True)
class Decoding(Sampling):
    """A `Sampling` with what a student in this process can do besides. UsageError for a value out of range.

    `top_k` 0, `min_p` 0 and `repetition_penalty` 1 change nothing.
    """

    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        allowed = {
            "max_tokens": (self.max_tokens >= 1, "1 or more"),
            "temperature": (0 <= self.temperature < math.inf, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < math.inf, "above 0"),
        }
        for name, (fits, range_) in allowed.items():
            if not fits:
                raise UsageError(f"{name} is {getattr(self, name)}; give a number {range_}.")

    @classmethod
    def of(cls, sampling: Sampling) -> "Decoding":
        """`sampling` itself if it is one, else one that adds nothing."""
        if isinstance(sampling, cls):
            return sampling
        return cls(max_tokens=sampling.max_tokens, temperature=sampling.temperature, top_p=sampling.top_p)


def next_token(
    logits_V: Tensor, sampling: Sampling, generator: torch.Generator | None = None, seen_V: Tensor | None = None
) -> Tensor:
    """One id, a scalar on the device of the logits: the likeliest at temperature 0, else drawn.

    `seen_V` is True for the tokens that the repetition penalty is for.
    """
    decoding = Decoding.of(sampling)
    if seen_V is not None:
        logits_V = penalised(logits_V, seen_V, decoding.repetition_penalty)
    if decoding.temperature == 0:
        return logits_V.argmax()
    return torch.multinomial(distribution(logits_V, decoding), 1, generator=generator)[0]


def distribution(logits_V: Tensor, decoding: Decoding) -> Tensor:
    """The probabilities that a token is drawn with, at a temperature above 0."""
    # A temperature near 0 must not make an infinity of the largest logit.
    below_V = logits_V.float() - logits_V.float().amax(-1, keepdim=True)
    probs_V = torch.softmax(below_V / _in_float32(decoding.temperature), dim=-1)
    return min_p(nucleus(top_k(probs_V, decoding.top_k), decoding.top_p), decoding.min_p)


def penalised(logits_V: Tensor, seen_V: Tensor, penalty: float) -> Tensor:
    """Make tokens in `seen_V` less likely: positive logits over `penalty`, others times it (Keskar et al. 2019)."""
    by, largest = _in_float32(penalty), torch.finfo(logits_V.dtype).max
    return torch.where(seen_V, torch.where(logits_V > 0, logits_V / by, logits_V * by), logits_V).clamp(
        -largest, largest
    )


def _in_float32(number: float) -> float:
    """The nearest number above 0 that float32 holds: by a smaller one a logit would become NaN."""
    return min(max(number, _FLOAT32.tiny), _FLOAT32.max)


def top_k(probs_V: Tensor, k: int) -> Tensor:
    """Renormalise over the `k` likeliest tokens, the lowest ids of equals (Fan et al. 2018); 0 keeps all."""
    if not 0 < k < probs_V.shape[-1]:
        return probs_V
    sorted_V, order_V = probs_V.sort(dim=-1, descending=True, stable=True)
    sorted_V[..., k:] = 0
    return _restored(sorted_V, order_V)


def nucleus(probs_V: Tensor, top_p: float) -> Tensor:
    """Renormalise over the smallest set of most likely tokens whose mass reaches `top_p` (Holtzman et al. 2020)."""
    if top_p >= 1:
        return probs_V
    sorted_V, order_V = probs_V.sort(dim=-1, descending=True, stable=True)
    before_V = sorted_V.cumsum(-1) - sorted_V
    # No mass comes before the most likely token, so it is always kept.
    return _restored(torch.where(before_V < top_p, sorted_V, 0.0), order_V)


def min_p(probs_V: Tensor, share: float) -> Tensor:
    """Renormalise over the tokens with at least `share` of the likeliest one's probability (Nguyen et al. 2024)."""
    if share <= 0:
        return probs_V
    kept_V = torch.where(probs_V >= share * probs_V.amax(-1, keepdim=True), probs_V, 0.0)
    return kept_V / kept_V.sum(-1, keepdim=True)


def _restored(sorted_V: Tensor, order_V: Tensor) -> Tensor:
    """What is left of a sorted distribution, in the order of ids, with the sum 1."""
    kept_V = sorted_V / sorted_V.sum(-1, keepdim=True)
    return torch.zeros_like(kept_V).scatter_(-1, order_V, kept_V)
