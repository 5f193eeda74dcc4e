"""The attention-relation loss: the student's last layer relates its tokens as that of its source does.

It is the third stage of BitDistill (arXiv 2510.13998), after MiniLMv2 (arXiv 2012.15828). For each of queries, keys
and values, before they are turned by their positions, a position relates to itself and to those before it in its own
text, head by head:

    s = a·aᵀ/√C,  r = softmax(s),  loss = mean over the three, heads and positions of KL(r of the source ‖ r)
    dloss/ds = (r − r of the source)/count,  dloss/da = (dloss/ds + (dloss/ds)ᵀ)·a/√C

The relations of one row are in memory at a time, and none for the backward pass: the gradient is computed in the
forward pass, as that of the other losses.

Shapes: B rows, T positions, D hidden, H heads, C head size.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bitnet_core.model.layers import Attention, Layer, project_together
from bitnet_core.model.student import Student
from bitnet_core.traces.examples import Batch

_OTHER_TEXT = -1e9
"""The score of a position in another text: exp of it is 0, and 0 times it is a number."""


class Relations:
    """Holds the loss against a source: a student without quantisers, whose layers end with the one to learn from."""

    def __init__(self, source: Student, weight: float) -> None:
        self.weight = weight
        self._source = source.eval().requires_grad_(requires_grad=False)
        self._wanted_input: list[Tensor] = []
        self._own_input: list[Tensor] = []
        _watch(self._source, self._wanted_input)

    def watch(self, student: Student) -> None:
        """Note what the student's last attention reads in each pass with gradients, for `loss`."""
        _watch(student, self._own_input, when_learning=True)

    def loss(self, student: Student, batch: Batch, positions: int) -> Tensor:
        """The loss of the batch that the student has just read, in nats; its share of a step with so many positions.

        `positions` counts as `real_positions` does.
        """
        with torch.no_grad():
            self._source(batch.ids_BT, segments_BT=batch.segments_BT)
            wanted_3 = _states(self._source, self._wanted_input.pop())
        own_3 = _states(student, self._own_input.pop())
        texts_BT = _texts(batch)
        parts = [relation_loss(own, wanted, texts_BT, positions) for own, wanted in zip(own_3, wanted_3, strict=True)]
        return torch.stack(parts).mean()


def real_positions(batch: Batch) -> int:
    """How many positions of a batch are not padding. The batch is still on the CPU."""
    return int((_texts(batch) >= 0).sum())


def relation_loss(own_BHTC: Tensor, wanted_BHTC: Tensor, texts_BT: Tensor, positions: int) -> Tensor:
    """Σ over positions of the mean over heads of KL(wanted ‖ own), over `positions`, in nats.

    `texts_BT` numbers the texts of a row, with -1 for padding. The gradient reaches `own_BHTC`.
    """
    loss: Tensor = _RelationLoss.apply(own_BHTC, wanted_BHTC, texts_BT, positions)  # type: ignore[no-untyped-call]
    return loss


class _RelationLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own_BHTC: Tensor, wanted_BHTC: Tensor, texts_BT: Tensor, positions: int) -> Tensor:
        heads, tokens, size = own_BHTC.shape[1:]
        wide = torch.float64 if own_BHTC.dtype == torch.float64 else torch.float32
        before_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=own_BHTC.device).tril_()
        loss = torch.zeros((), dtype=wide, device=own_BHTC.device)
        d_own_BHTC = torch.empty_like(
            own_BHTC, dtype=wide
        )  # its numbers are too small for fp16 before they are scaled
        with torch.autocast(own_BHTC.device.type, enabled=False):
            for row, texts_T in enumerate(texts_BT):
                hidden_TT = ~((texts_T[:, None] == texts_T) & before_TT)
                share_T1 = (texts_T >= 0).to(wide)[:, None] / (heads * max(1, positions))
                own_HTC = own_BHTC[row].to(wide)
                own_HTT, wanted_HTT = (
                    F.log_softmax((x @ x.mT / size**0.5).masked_fill_(hidden_TT, _OTHER_TEXT), dim=-1)
                    for x in (own_HTC, wanted_BHTC[row].to(wide))
                )
                relation_HTT = wanted_HTT.exp()
                loss += (relation_HTT * (wanted_HTT - own_HTT) * share_T1).sum()
                d_score_HTT = own_HTT.exp_().sub_(relation_HTT).mul_(share_T1)
                d_own_BHTC[row] = (d_score_HTT @ own_HTC + d_score_HTT.mT @ own_HTC) / size**0.5
        ctx.save_for_backward(d_own_BHTC)
        ctx.dtype = own_BHTC.dtype
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (d_own_BHTC,) = ctx.saved_tensors
        return (d_own_BHTC * grads[0]).to(ctx.dtype), None, None, None


def _texts(batch: Batch) -> Tensor:
    """The texts [B, T] of a batch, with -1 for padding, which is behind a row's last supervised position."""
    if batch.segments_BT is not None:
        return batch.segments_BT
    rows, tokens = batch.ids_BT.shape
    last_B = batch.positions_N.new_full((rows,), -1)
    last_B.scatter_reduce_(0, batch.positions_N // tokens, batch.positions_N % tokens, "amax")
    places_T = torch.arange(tokens, device=last_B.device)
    return torch.where(places_T <= last_B[:, None], 0, -1)


def _last_attention(student: Student) -> Attention:
    layer = student.model.layers[-1]
    if not isinstance(layer, Layer):
        raise AssertionError("the student has a layer of another kind")
    return layer.self_attn


def _watch(student: Student, seen: list[Tensor], *, when_learning: bool = False) -> None:
    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        if torch.is_grad_enabled() or not when_learning:
            seen[:] = [inputs[0]]

    _last_attention(student).register_forward_pre_hook(note)


def _states(student: Student, input_BTD: Tensor) -> Sequence[Tensor]:
    """Queries, keys and values [B, H, T, C] that the last attention makes of its input."""
    attention = _last_attention(student)
    linears = attention.q_proj, attention.k_proj, attention.v_proj
    projected = project_together(linears, attention.q_proj.quantize_input(input_BTD))
    heads = (*input_BTD.shape[:2], -1, attention.head_dim)
    return [part.view(heads).transpose(1, 2) for part in projected]
