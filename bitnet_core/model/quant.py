"""The two quantisers of BitNet b1.58, with straight-through gradients. Pure functions without modules.

Weights: s = max(mean|W|, 1e-5), W_q = clip(round(W/s), -1, 1)·s, one scale per tensor.
Activations, per token: s = max(max|x|, 1e-5)/Q, x_q = clip(round(x/s), -Q-1, Q)·s with Q = 127 (A8) or 7 (A4).
Source: Ma et al. 2024 (arXiv 2402.17764). Both multiply by the reciprocal of s, in the order of transformers'
`integrations/bitnet.py`, so that the two agree to the last bit: a value near a rounding boundary falls on the same
level in both.

Shapes: O out features, I in features, a leading `...` is any number of token dimensions.
"""

import math
from typing import Any

import torch
from torch import Tensor

from bitnet_core.model.config import LEAST_BITS, MOST_BITS

SMALLEST = 1e-5


def widened(x: Tensor) -> Tensor:
    """x in fp32; fp64 stays fp64."""
    return x if x.dtype == torch.float64 else x.float()


def levels(bits: int) -> int:
    """Q, the largest code of `bits`-bit activations: 127 for 8, 7 for 4. ValueError outside 2 to 8 bits."""
    if not LEAST_BITS <= bits <= MOST_BITS:
        raise ValueError(f"activations of {bits} bits are not supported")
    return int(2 ** (bits - 1)) - 1


def ternarize(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Codes [O, I] int8 in {-1, 0, 1} and the scalar s; `codes * s` is exactly what training multiplies with."""
    reciprocal = _reciprocal_scale(widened(weight_OI))
    codes_OI = (widened(weight_OI) * reciprocal).round_().clamp_(-1, 1)
    return codes_OI.to(torch.int8), 1.0 / reciprocal


def quantize_weight(weight_OI: Tensor) -> Tensor:
    """W_q [O, I] in the dtype of the weight, without a gradient."""
    wide_OI = widened(weight_OI.detach())
    reciprocal = _reciprocal_scale(wide_OI)
    return (wide_OI * reciprocal).round_().clamp_(-1, 1).div_(reciprocal).to(weight_OI.dtype)


def quantize_activation(x_tokens: Tensor, bits: int) -> Tensor:
    """x_q [..., I] in the dtype of x, without a gradient. Each token (row of the last axis) has its own scale."""
    q = levels(bits)
    wide = widened(x_tokens.detach())
    reciprocal = reciprocal_step(wide, bits)
    return (wide * reciprocal).round_().clamp_(-q - 1, q).div_(reciprocal).to(x_tokens.dtype)


def reciprocal_step(x_tokens: Tensor, bits: int) -> Tensor:
    """1/s [..., 1] of each token x [..., I]."""
    return levels(bits) / x_tokens.abs().amax(dim=-1, keepdim=True).clamp_(min=SMALLEST)


def hadamard(x: Tensor) -> Tensor:
    """x [..., I] times the orthonormal Walsh-Hadamard matrix, in blocks of the largest power of two that divides I.

    This spreads an outlier over its block, so that few levels are enough (BitNet v2, arXiv 2504.18415). The matrix of
    size 2^m is a Kronecker product of two smaller ones: two small matmuls instead of one of size I.
    """
    block = x.shape[-1] & -x.shape[-1]
    rows = 1 << (block.bit_length() // 2)
    columns = block // rows
    left, right = (_walsh(size, x.dtype, x.device) for size in (rows, columns))
    blocks = x.reshape(*x.shape[:-1], -1, rows, columns)
    return torch.matmul(torch.matmul(left, blocks), right).flatten(-3)


def _walsh(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The symmetric, orthonormal Walsh-Hadamard matrix: entry (i, j) is (-1)^popcount(i & j) / sqrt(size)."""
    places = torch.arange(size, device=device)
    common = places[:, None] & places
    parity = torch.zeros_like(common)
    for bit in range(size.bit_length()):
        parity ^= (common >> bit) & 1
    return (1 - 2 * parity).to(dtype) / math.sqrt(size)


def quantize_weight_ste(weight_OI: Tensor, quantized_OI: Tensor | None = None, share: Tensor | None = None) -> Tensor:
    """W_q, or a `share` of it (see `partly`), with the identity as gradient.

    `quantized_OI` is the result where it is already known (`Student.held_weights`).
    """
    result: Tensor = _WeightSTE.apply(weight_OI, quantized_OI, share)  # type: ignore[no-untyped-call]
    return result


def quantize_activation_ste(x_tokens: Tensor, bits: int, share: Tensor | None = None) -> Tensor:
    """x_q, or a `share` of it (see `partly`), with the identity as gradient."""
    result: Tensor = _ActivationSTE.apply(x_tokens, bits, share)  # type: ignore[no-untyped-call]
    return result


def partly(x: Tensor, x_q: Tensor, share: Tensor | None) -> Tensor:
    """share·x_q + (1 − share)·x in the dtype of x; x_q itself where there is no share.

    Both straight-through gradients are the identity, so that of any mix is too. Source: "Fine-tuning LLMs to 1.58bit"
    (huggingface.co/blog/1_58_llm_extreme_quantization, 2024), which mixes weights and activations alike.
    """
    return x_q if share is None else x + share * (x_q - x)


def _reciprocal_scale(wide_OI: Tensor) -> Tensor:
    return 1.0 / wide_OI.abs().mean().clamp_(min=SMALLEST)


# Not written as `x + (x_q - x).detach()`: that sum rounds, and a third of the levels would be one bit off, which is
# neither ternary nor what the packed student computes.
class _WeightSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight_OI: Tensor, quantized_OI: Tensor | None, share: Tensor | None) -> Tensor:  # noqa: ARG004
        if quantized_OI is not None:
            return quantized_OI.view_as(quantized_OI)
        return partly(weight_OI, quantize_weight(weight_OI), share)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ARG004
        return grads[0], None, None


class _ActivationSTE(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_tokens: Tensor, bits: int, share: Tensor | None) -> Tensor:  # noqa: ARG004
        return partly(x_tokens, quantize_activation(x_tokens, bits), share)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ARG004
        return grads[0], None, None
