"""Fits a student to what its source says of the same text, before training begins.

A student that keeps some layers of its source has ternary weights in them, and nothing in the place of the others.
All layers are trained together, so that the head turns their last state into the source's probabilities. The text
needs no labels, and a part of the head is enough: the loss of a position is the KL divergence over the tokens that
occur in the text, a few thousand of the vocabulary, so a step takes a fraction of training's. Only what follows the
prompts counts: prompts are few, come again and again, and a student is never asked to write them. The embedding
stays as it is. A penalty keeps what the down projections read fit for 8 bits (`peaks.py`).

Shapes: R rows, T positions, D hidden, N asked positions, W tokens that the text has.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from bitnet_core.model.layers import Layer, Rotation, bit_linears
from bitnet_core.model.student import Student
from bitnet_core.pretrained.calibrate import sub_norms
from bitnet_core.pretrained.half_made import HalfMade
from bitnet_core.pretrained.peaks import inputs_of_down, unevenness
from bitnet_core.pretrained.source import EMBEDDING, Source, layer_names
from bitnet_core.runs.reporter import Reporter

_ROWS = 4
"""Rows that the source reads at once."""
_PACE = 0.01
"""Largest step of a weight, as a share of the root mean square of its tensor."""
_WARM_UP_STEPS = 100
"""Gradients are some thirty times as long at first as later, and full steps along them cost more than they gain."""
_PEAK_WEIGHT = 0.03
"""Of the penalty on peaks in what the down projections read, beside a divergence in nats (docs/RESULTS.md)."""
_KEPT = 4
"""How often the fit is kept, so that a killed one loses a part of its steps; a stop keeps all of them."""
_READING = "reading the answers with the model it starts from"
_FITTING = "fitting the student to the model it starts from"


@dataclass(frozen=True)
class Text:
    """The text to fit a student on: its ids [R, T], its positions that count, and the rotary embedding.

    What stands behind a row's last position that counts is not read.
    """

    ids_RT: Tensor
    asked_RT: Tensor
    rotation: Rotation

    def lengths(self) -> Tensor:
        """Positions to read of each row [R]."""
        places_T = torch.arange(1, self.asked_RT.shape[1] + 1, device=self.asked_RT.device)
        return (self.asked_RT * places_T).amax(dim=1)


@dataclass(frozen=True)
class Fitted:
    """Mean KL divergence in nats, of the first batch and of the last ones."""

    before: float
    after: float


@torch.no_grad()
def source_state(source: Source, text: Text, reporter: Reporter, half_made: HalfMade | None = None) -> Tensor:
    """The source's residual stream [R, T, D] behind its last layer, with one layer of it in memory at a time.

    What it holds where the text is not read means nothing. Raises Stopped when the reporter is asked to stop; of
    what is `half_made`, each layer is kept.
    """
    shape, device = replace(source.shape, num_hidden_layers=1, hadamard=False), text.ids_RT.device
    layer = Layer(shape, 0).to(device)
    in_full_precision(layer)
    own = dict(layer.named_parameters())
    state_RTD = F.embedding(text.ids_RT, source.read(EMBEDDING).to(device))
    lengths_R = text.lengths()
    batches = [(rows, int(lengths_R[rows].max())) for rows in torch.split(lengths_R.argsort(stable=True), _ROWS)]
    layers, kept = source.shape.num_hidden_layers, half_made.find("read") if half_made else {}
    if kept:
        state_RTD = kept["state"].to(device)
        _say_it_goes_on(reporter, f"{kept['layers']} of {layers} layers have read the answers")
    for index in range(kept.get("layers", 0), layers):
        reporter.progress(index, layers, "layers", _READING)
        for part in layer_names(shape):
            own[part].copy_(source.read(f"model.layers.{index}.{part}"))
        for rows, length in batches:
            reporter.check_stop()
            cos_11TC, sin_11TC = (part_11TC[:, :, :length] for part_11TC in text.rotation)
            state_RTD[rows, :length] = layer(state_RTD[rows, :length], (cos_11TC, sin_11TC), None, None)
        if half_made:
            half_made.keep("read", {"layers": index + 1, "state": state_RTD.cpu()}, reporter)
    return state_RTD


def _say_it_goes_on(reporter: Reporter, done: str) -> None:
    reporter.resumes = True
    reporter.log(f"The start continues where it was stopped: {done}.")


def in_full_precision(layer: nn.Module) -> None:
    """Change a layer to compute as a source has it: no sub-norms, and nothing quantised."""
    for owner, name in sub_norms(layer):
        setattr(owner, name, nn.Identity())
    for linear in bit_linears(layer):
        linear.activation_bits = None


def reconstruct(
    student: Student,
    wanted_RTD: Tensor,
    text: Text,
    steps: int,
    reporter: Reporter,
    half_made: HalfMade | None = None,
) -> Fitted:
    """Fit all but the embedding, in place. `wanted_RTD` is the source's last state, in the student's own basis.

    A step reads one row, each row once before any is read again: many steps on little text reach further than few
    on more, because what is learnt is far from what is there at first. The same student, text and steps give the
    same bits, also if they are `half_made`. Raises Stopped when the reporter is asked to stop.
    """
    generator, embedding_VD = torch.Generator().manual_seed(0), student.output_weight
    fitted = [one for one in student.parameters() if one is not embedding_VD]
    rates = [_PACE * float(one.detach().square().mean().sqrt()) for one in fitted]
    groups = [{"params": [one], "lr": rate} for one, rate in zip(fitted, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    warm_up = max(1, min(_WARM_UP_STEPS, steps // 4))
    with torch.no_grad():
        head_WD = embedding_VD[torch.unique(text.ids_RT[text.asked_RT])]
        wanted_RTD = student.model.norm(wanted_RTD)  # by the norm as it is at first
        kept = half_made.find("fit") if half_made else {}
        if kept:
            for one, value in zip(fitted, kept["weights"], strict=True):
                one.copy_(value)
            optimizer.load_state_dict(kept["optimizer"])
            _say_it_goes_on(reporter, f"{kept['step']:,} of {steps:,} steps of fitting are done")
    begun, losses = kept.get("step", 0), list(kept["losses"].to(embedding_VD.device)) if kept else []
    passes, lengths = itertools.islice(_passes(len(wanted_RTD), generator), begun, None), text.lengths().tolist()
    trained = embedding_VD.requires_grad
    embedding_VD.requires_grad_(False)
    try:
        for step in range(begun, steps):
            if half_made and step > begun and (reporter.stopping or step % max(1, steps // _KEPT) == 0):
                weights = [one.detach().cpu() for one in fitted]
                done = {"step": step, "weights": weights, "losses": torch.stack(losses).cpu()}
                half_made.keep("fit", done | {"optimizer": optimizer.state_dict()}, reporter)
            reporter.check_stop()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (min(1.0, (step + 1) / warm_up) * (1 - 0.9 * step / steps))
            row = next(passes)
            asked_T, length = text.asked_RT[row], lengths[row]
            with inputs_of_down(student) as inputs:
                out_ND = student(text.ids_RT[row, None, :length])[0, asked_T[:length]]
            loss = divergence(out_ND, wanted_RTD[row, asked_T], head_WD)
            optimizer.zero_grad()
            total = loss + _PEAK_WEIGHT * unevenness(inputs)
            total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.detach())
            reporter.progress(step + 1, steps, "steps", _FITTING)
    finally:
        embedding_VD.requires_grad_(trained)
    student.zero_grad(set_to_none=True)
    found = torch.stack(losses)
    return Fitted(float(found[0]), float(found[-max(1, steps // 8) :].mean()))


def _passes(rows: int, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from torch.randperm(rows, generator=generator).tolist()


def divergence(out_ND: Tensor, wanted_ND: Tensor, head_WD: Tensor) -> Tensor:
    """Mean KL divergence in nats of what the head says of two states behind the last norm, from the wanted one."""
    said_NW, wanted_NW = (F.linear(state_ND, head_WD).log_softmax(dim=-1) for state_ND in (out_ND, wanted_ND))
    return F.kl_div(said_NW, wanted_NW, reduction="batchmean", log_target=True)
