"""Keeps what the down projections read even, while a student is fitted, so that 8 bits are enough for it.

A quantiser has one step for all values of a token, and the largest one decides it. Where that is p times the token's
root mean square, rounding adds noise of (p/127)²/12 of the token's power. A student that keeps the layers of a Llama
has p of 14 to 24 there, and llama.cpp, whose steps are for 256 values each, then says something else than the
student. A penalty on the square of p is one on that noise.

Shapes: B rows, T positions, F inputs of down.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from bitnet_core.model.layers import BitLinear, Layer
from bitnet_core.model.quant import hadamard

_EVEN = 6.0
"""A peak of up to this many times the root mean square costs nothing; normal values have peaks of 3 to 4."""
_LEAST_SQUARE = 1e-12
"""Keeps a token of zeros finite."""


@contextlib.contextmanager
def inputs_of_down(student: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which a pass inside the block adds what each down projection quantises [B, T, F]."""
    found: list[Tensor] = []

    def note(down: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(hadamard(inputs[0]) if isinstance(down, BitLinear) and down.hadamard else inputs[0])

    layers = [layer for layer in student.modules() if isinstance(layer, Layer)]
    handles = [layer.mlp.down_proj.register_forward_pre_hook(note) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def peaks(x_tokens: Tensor) -> Tensor:
    """The largest absolute value of each token x [..., F], in root mean squares of the token."""
    return x_tokens.abs().amax(dim=-1) / x_tokens.square().mean(dim=-1).add(_LEAST_SQUARE).sqrt()


def unevenness(inputs: Sequence[Tensor]) -> Tensor:
    """Σ over these inputs [..., F] of the mean over tokens of (peak / 6 − 1)², where the peak is above 6."""
    return torch.stack([(peaks(one) / _EVEN - 1).clamp(min=0).square().mean() for one in inputs]).sum()
