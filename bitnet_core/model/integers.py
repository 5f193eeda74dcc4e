"""Products of ternary weights with quantised inputs in 8-bit whole numbers. It knows no modules.

With x_q = codes_x · step for each token and W_q = codes_W · s, x_q W_qᵀ = (codes_x codes_Wᵀ) · step · s. The sum of
whole numbers is exact in 32 bits, and takes a third of the time of fp32 where the processor has instructions for it.

Shapes: M tokens, I in features, O out features, a leading `...` is any number of token dimensions.
"""

import contextlib
import functools
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor

from bitnet_core.model.quant import levels, reciprocal_step

_wanted = ContextVar("whole numbers wanted", default=True)
_INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "amx_int8")


class Codes(NamedTuple):
    """A quantised input: whole numbers [..., I] int8, and the step [..., 1] that they count."""

    codes: Tensor
    step: Tensor

    def values(self) -> Tensor:
        """What `quant.quantize_activation` gives, up to rounding."""
        return self.codes * self.step


@functools.cache
def _processor_multiplies() -> bool:
    capable = torch.cpu.get_capabilities()
    return hasattr(torch, "_int_mm") and any(capable.get(name) for name in _INSTRUCTIONS)


def usable(x: Tensor, bits: int | None) -> bool:
    """Whether products with `x` [..., I], quantised to `bits` bits, can be taken here. They have no gradient."""
    if bits is None or torch.is_grad_enabled() or x.device.type != "cpu" or x.dtype != torch.float32:
        return False
    # torch 2.13 gives wrong products of a single column.
    return x.shape[-1] > 1 and _processor_multiplies() and _wanted.get()


@contextlib.contextmanager
def left_out() -> Iterator[None]:
    """Inside the block, products are taken in fp32 on every processor, as other programs take them."""
    before = _wanted.set(False)
    try:
        yield
    finally:
        _wanted.reset(before)


def codes_of(x_tokens: Tensor, bits: int) -> Codes:
    """The codes of `quant.quantize_activation` for x [..., I] in fp32. None needs clipping."""
    largest = levels(bits)
    reciprocal = reciprocal_step(x_tokens, bits)
    # As `quantize_activation` divides; `largest / reciprocal` would multiply by the inverse, which rounds.
    step = torch.full_like(reciprocal, largest).div_(reciprocal).div_(largest)
    return Codes((x_tokens * reciprocal).round_().to(torch.int8), step)


def product(codes_MI: Tensor, weight_OI: Tensor) -> Tensor:
    """codes_x · codes_Wᵀ, [M, O] int32; all codes are int8.

    Exact for up to 2^17 in features, as no code is below -128.
    """
    return torch._int_mm(codes_MI, weight_OI.t())
