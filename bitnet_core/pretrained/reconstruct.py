"""Fits a student's layers one by one to what its source makes of the same text, before training begins.

A student that keeps some layers of its source has ternary weights in them, and nothing in the place of the others.
Each layer of it learns to leave the residual stream as the source has it before the next layer that is kept, from
what the student's own layers before it leave (block-wise reconstruction, as in BRECQ, arXiv 2102.05426). That needs
no labels and no vocabulary, and one layer of the source in memory at a time.

The error of a token is |out − wanted|² / |wanted|²: the few tokens with a stream a hundred times larger count no more
than others.

Shapes: R rows, T positions, D hidden, N real tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bitnet_core.model.layers import Layer, Rotation, bit_linears
from bitnet_core.model.student import Student
from bitnet_core.pretrained.calibrate import sub_norms
from bitnet_core.pretrained.source import EMBEDDING, Source, layer_names
from bitnet_core.runs.reporter import Reporter

_ROWS = 4
"""Rows in a batch, and at once elsewhere."""
_PACE = 0.02
"""Largest step of a weight, as a share of the root mean square of its tensor."""
_WARM_UP_STEPS = 10
_LABEL = "fitting the layers to their source"


@dataclass(frozen=True)
class Text:
    """The text that layers are fitted on: its ids [R, T], which of them are not padding, and the rotary embedding."""

    ids_RT: Tensor
    real_RT: Tensor
    rotation: Rotation


@dataclass(frozen=True)
class Fitted:
    """Mean error of all layers in their first batch and in their last ones."""

    before: float
    after: float


@torch.no_grad()
def source_states(source: Source, kept: Sequence[int], text: Text, reporter: Reporter) -> Iterator[Tensor]:
    """The source's residual stream [R, T, D] before each layer that is kept but the first, and behind its last layer.

    Raises Stopped when the reporter is asked to stop.
    """
    shape, device = replace(source.shape, num_hidden_layers=1, hadamard=False), text.ids_RT.device
    layer = Layer(shape, 0).to(device)
    in_full_precision(layer)
    own = dict(layer.named_parameters())
    states_RTD = F.embedding(text.ids_RT, source.read(EMBEDDING).to(device))
    for index in range(source.shape.num_hidden_layers):
        if index in kept[1:]:
            yield states_RTD
        for part in layer_names(shape):
            own[part].copy_(source.read(f"model.layers.{index}.{part}"))
        states_RTD = _through(layer, states_RTD, text, reporter)
    yield states_RTD


def in_full_precision(layer: nn.Module) -> None:
    """Change a layer to compute as a source has it: no sub-norms, and nothing quantised."""
    for owner, name in sub_norms(layer):
        setattr(owner, name, nn.Identity())
    for linear in bit_linears(layer):
        linear.activation_bits = None


@torch.no_grad()
def _through(layer: nn.Module, states_RTD: Tensor, text: Text, reporter: Reporter) -> Tensor:
    parts = []
    for part in torch.split(states_RTD, _ROWS):
        reporter.check_stop()
        parts.append(layer(part, text.rotation, None, None))
    return torch.cat(parts)


def reconstruct(student: Student, wanted: Iterator[Tensor], text: Text, steps: int, reporter: Reporter) -> Fitted:
    """Fit each layer in turn, in place. `wanted` are the streams [R, T, D] behind each, in the student's own basis.

    The same student, text and steps give the same bits. Raises Stopped when the reporter is asked to stop.
    """
    generator = torch.Generator().manual_seed(0)
    layers, errors = len(student.model.layers), []
    with torch.no_grad():
        states_RTD = student.model.embed_tokens(text.ids_RT)
    for place, (layer, wanted_RTD) in enumerate(zip(student.model.layers, wanted, strict=True)):
        groups = [
            {"params": [one], "lr": _PACE * float(one.detach().square().mean().sqrt())} for one in layer.parameters()
        ]
        optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
        pace = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / _WARM_UP_STEPS) * (1 - 0.9 * step / steps)
        )
        for step in range(steps):
            reporter.check_stop()
            rows = torch.randperm(len(states_RTD), generator=generator)[:_ROWS].to(states_RTD.device)
            real_RT = text.real_RT[rows]
            out_ND = layer(states_RTD[rows], text.rotation, None, None)[real_RT]
            wanted_ND = wanted_RTD[rows][real_RT]
            loss = ((out_ND - wanted_ND).square().sum(dim=-1) / wanted_ND.square().sum(dim=-1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            pace.step()
            errors.append(loss.detach())
            reporter.progress(place * steps + step + 1, layers * steps, "steps", _LABEL)
        states_RTD = _through(layer, states_RTD, text, reporter)
    student.zero_grad(set_to_none=True)
    errors_LS = torch.stack(errors).view(layers, steps)
    last = max(1, steps // 8)
    return Fitted(float(errors_LS[:, 0].mean()), float(errors_LS[:, -last:].mean()))
