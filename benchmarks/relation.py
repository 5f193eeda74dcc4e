"""The attention-relation loss of BitDistill (arXiv 2510.13998, stage 3), to be measured by `bench_warm.py`.

For queries, keys and values of one layer each, a relation of two positions is softmax(a·aᵀ/√C) over a head's
states; the student learns the source's (MiniLMv2, arXiv 2012.15828). The student's layer is its last one, the
source's the last of those that the student began with. A position relates to those before it in its own text.

Shapes: B rows, T positions, D hidden, H heads, C head size.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bitnet_core.model.layers import Layer, project_together
from bitnet_core.model.student import Student
from bitnet_core.pretrained.calibrate import sub_norms
from bitnet_core.pretrained.source import Source
from bitnet_core.pretrained.start import load
from bitnet_core.traces.examples import Batch, Counts
from bitnet_core.training.losses import LossParts
from bitnet_core.training.step import Stepper


class RelationStepper(Stepper):
    """A stepper whose loss has the relations of a source beside it.

    Their weight is such that at the first batch their gradient has `share` of the length of the loss's own.
    """

    def teach(self, source: Source, layer: int, share: float) -> None:
        """`layer` is that of the source; those behind it are not computed."""
        shape = replace(source.shape, num_hidden_layers=layer + 1, hadamard=False)
        self._source = _in_full_precision(Student(shape).eval())
        load(self._source, source, range(layer + 1))
        self._share, self._weight = share, math.nan

    def _forward(self, batch: Batch, counts: Counts) -> LossParts:
        with _seen_by_the_last(self.student) as own:
            parts = super()._forward(batch, counts)
        with torch.no_grad(), _seen_by_the_last(self._source) as wanted:
            self._source(batch.ids_BT, segments_BT=batch.segments_BT)
        loss = relation_loss(own[0], wanted[0], batch.segments_BT)
        if math.isnan(self._weight):
            self._weight = self._share * self._length(parts.total) / self._length(loss)
            print(f"relations: {loss.item():.3f} nats at first, weight {self._weight:.3f}", flush=True)
        return parts._replace(total=parts.total + self._weight * loss)

    def _length(self, loss: Tensor) -> float:
        weights = [linear.weight for linear in self.student.bit_linears()]
        found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        return float(torch.stack([one.norm() for one in found if one is not None]).norm())


def relation_loss(own_3: list[Tensor], wanted_3: list[Tensor], segments_BT: Tensor | None) -> Tensor:
    """KL(source ‖ student) of the relations of queries, keys and values, each [B, H, T, C], in nats a position."""
    batch, _, tokens, size = own_3[0].shape
    allowed_B1TT = torch.ones(tokens, tokens, dtype=torch.bool).tril().expand(batch, 1, tokens, tokens)
    real_BT = torch.ones(batch, tokens, dtype=torch.bool)
    if segments_BT is not None:
        allowed_B1TT = allowed_B1TT & (segments_BT[:, None, :, None] == segments_BT[:, None, None, :])
        real_BT = segments_BT >= 0
    parts = []
    for own_BHTC, wanted_BHTC in zip(own_3, wanted_3, strict=True):
        own, wanted = (
            F.log_softmax((x @ x.mT / size**0.5).masked_fill(~allowed_B1TT, -1e9), dim=-1)
            for x in (own_BHTC.float(), wanted_BHTC.float())
        )
        kl_BHT = F.kl_div(own, wanted, reduction="none", log_target=True).sum(dim=-1)
        parts.append(kl_BHT.mean(dim=1)[real_BT].mean())
    return torch.stack(parts).mean()


@contextlib.contextmanager
def _seen_by_the_last(student: Student) -> Iterator[list[list[Tensor]]]:
    """Queries, keys and values [B, H, T, C] of the last layer, before they are turned by their positions."""
    found: list[list[Tensor]] = []
    layer = student.model.layers[-1]
    assert isinstance(layer, Layer)
    attention = layer.self_attn
    linears = attention.q_proj, attention.k_proj, attention.v_proj

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        projected = project_together(linears, attention.q_proj.quantize_input(inputs[0]))
        batch, tokens, _size = inputs[0].shape
        found.append([part.view(batch, tokens, -1, attention.head_dim).transpose(1, 2) for part in projected])

    handle = attention.register_forward_pre_hook(look)
    try:
        yield found
    finally:
        handle.remove()


def _in_full_precision(source: Student) -> Student:
    source.activation_bits = None
    for layer in source.model.layers:
        assert isinstance(layer, Layer)
        for owner, name in sub_norms(layer):
            setattr(owner, name, nn.Identity())
    return source
