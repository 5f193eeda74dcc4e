"""Weights for the two norms that a student has and its source has not, so that they change as little as they can.

A sub-norm turns its input x into w·x/r, with r = rms(x) of the token. The source has x itself there, so each channel
c gets the w that is nearest over some real text, by least squares: w_c = (Σ x_c²/r) / (Σ x_c²/r²), a mean of r in
which tokens count by the channel's share of them. Weights of 1 would shrink or blow up what o and down read.

Shapes: B rows, T positions, N real positions, C channels.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bitnet_core.model.layers import Layer, RMSNorm
from bitnet_core.model.quant import widened
from bitnet_core.model.student import Student


class _Observed(nn.Module):
    """In the place of a sub-norm: passes its input through, and adds up what decides the norm's weight."""

    def __init__(self, norm: RMSNorm, real_N: Tensor) -> None:
        super().__init__()
        self.norm, self._real_N = norm, real_N
        self._products_C, self._squares_C = (torch.zeros_like(norm.weight, dtype=torch.float64) for _ in range(2))

    def forward(self, x_BTC: Tensor) -> Tensor:
        x_NC = widened(x_BTC).flatten(0, 1).index_select(0, self._real_N).double()
        inverse_N1 = torch.rsqrt(x_NC.square().mean(dim=-1, keepdim=True) + self.norm.eps)
        self._products_C += (x_NC.square() * inverse_N1).sum(dim=0)
        self._squares_C += (x_NC * inverse_N1).square().sum(dim=0)
        return x_BTC

    def weight_C(self) -> Tensor:
        """A channel that is always 0 gets 1: it has no say."""
        return torch.where(self._squares_C > 0, self._products_C / self._squares_C, 1.0)


@contextlib.contextmanager
def sub_norms_observed(student: Student, real_N: Tensor) -> Iterator[list[_Observed]]:
    """Inside the block the student computes what its source does: full precision, and no sub-norms."""
    bits, observers = student.layer_bits, []
    owners = [(part, name) for layer in student.model.layers for part, name in sub_norms(layer)]
    try:
        student.activation_bits = None
        for part, name in owners:
            observer = _Observed(getattr(part, name), real_N)
            setattr(part, name, observer)
            observers.append(observer)
        yield observers
    finally:
        for (part, name), observer in zip(owners, observers, strict=True):
            setattr(part, name, observer.norm)
        student.set_layer_bits(bits)


def sub_norms(layer: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """The parts of a layer that have a norm which its source has not, and its name there."""
    if not isinstance(layer, Layer):
        raise AssertionError("the student has a layer of another kind")
    yield layer.self_attn, "attn_sub_norm"
    yield layer.mlp, "ffn_sub_norm"


@torch.no_grad()
def calibrate(student: Student, ids_BT: Tensor, real_N: Tensor) -> None:
    """Set the weights of all sub-norms from the activations of one batch.

    `real_N` are the places in the flattened [B·T] that are not padding.
    """
    with sub_norms_observed(student, real_N) as observers:
        student(ids_BT)
    for observer in observers:
        observer.norm.weight.copy_(observer.weight_C())
