"""One optimizer step: micro-batches in, an update or a refusal out. It knows no schedules, files or events."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bitnet_core.model.precision import Precision
from bitnet_core.model.student import Student
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.examples import Batch, Counts
from bitnet_core.training.losses import LossParts, distill_loss
from bitnet_core.training.online import OnlineTeacher, whole
from bitnet_core.training.relations import Relations, real_positions

_FUSED_DEVICES = ("cpu", "cuda", "mps")
_MOMENTS = ("exp_avg", "exp_avg_sq")
_LEAST = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class StepResult:
    """`parts_5` (loss, kl, ce, format, agreement) and `grad_norm` stay on the device; the host knows `finite`."""

    parts_5: Tensor
    grad_norm: Tensor
    tokens: int
    counts: Counts
    """The positions that the parts are means over."""
    finite: bool
    own_text: bool = False
    """Whether the student wrote the batches itself."""
    format_share: Tensor | None = None
    """The share of the squared gradient at the hidden states that is at tokens of structure; None for own text."""
    relation: Tensor | None = None
    """The attention-relation loss, unweighted and not in `parts_5`; None without one."""


def build_optimizer(student: Student, options: TrainOptions, device: torch.device) -> torch.optim.AdamW:
    """AdamW that decays only the ternary layers' masters: norms and the embedding must not shrink.

    It has no state of an embedding that is kept as it is.
    """
    decayed = [linear.weight for linear in student.bit_linears()]
    chosen = {id(weight) for weight in decayed}
    trained = (parameter for parameter in student.parameters() if parameter.requires_grad)
    rest = [parameter for parameter in trained if id(parameter) not in chosen]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    betas, fused = (options.beta1, options.beta2), device.type in _FUSED_DEVICES
    return torch.optim.AdamW(groups, betas=betas, eps=options.eps, fused=fused)


class Stepper:
    """Student, optimizer and loss scale together: everything that an update changes."""

    def __init__(
        self,
        student: Student,
        options: TrainOptions,
        device: torch.device,
        precision: Precision,
        teacher: OnlineTeacher | None = None,
        relations: Relations | None = None,
    ) -> None:
        """A `teacher` is asked at every step, instead of what the traces have of it; `relations` add to the loss."""
        self.student, self.options, self.device, self.precision = student, options, device, precision
        self.teacher, self.relations = teacher, relations
        if relations:
            relations.watch(student)  # before the compiler traces it
        student.recompute = options.recompute
        # It shares the parameters, and is traced and fused at its first call.
        self._forward_pass = torch.compile(student) if options.compiled else student
        self.optimizer = build_optimizer(student, options, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision.scaled)

    def step(self, batches: Sequence[Batch], learning_rate: float, *, decay: bool = True) -> StepResult:
        """Accumulate over the batches and update once, unless loss or gradient is not finite.

        Every mean is over all batches together, so splitting them differently only changes the rounding.
        """
        if self.teacher:
            batches = [whole(batch) for batch in batches]
        counts = sum((batch.counts for batch in batches), Counts(0, 0, 0))
        self.optimizer.zero_grad(set_to_none=True)
        positions = sum(map(real_positions, batches)) if self.relations else 0
        held = self.student.held_weights() if len(batches) > 1 else contextlib.nullcontext()
        parts_5 = torch.zeros(5, device=self.device)
        relation = torch.zeros((), device=self.device) if self.relations else None
        squares_2 = torch.zeros(2, device=self.device)
        with held, self.precision.matmuls():
            for batch in batches:
                parts, related = self._forward(batch, counts, positions, squares_2)
                total = parts.total
                if self.relations and related is not None and relation is not None:
                    total = total + self.relations.weight * related
                    relation += related.detach()
                self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
                parts_5 += torch.stack(parts).detach()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.options.clip_norm)
        # The only place where the host waits for the device: a bad update could not be undone.
        finite = bool(torch.isfinite(norm) & torch.isfinite(parts_5[0]))
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.param_groups[0]["weight_decay"] = self.options.weight_decay if decay else 0.0
            self.scaler.step(self.optimizer)
        self.scaler.update()
        tokens = sum(len(batch.targets) for batch in batches)
        own_text = any(batch.own_text for batch in batches)
        share = None if own_text else squares_2[0] / squares_2[1].clamp_min(_LEAST)
        return StepResult(parts_5, norm, tokens, counts, finite, own_text, share, relation)

    def _forward(
        self, batch: Batch, counts: Counts, positions: int, squares_2: Tensor
    ) -> tuple[LossParts, Tensor | None]:
        reverse = self.options.on_policy.divergence == "reverse"
        teacher = self.teacher.of(batch, reverse_on_own=reverse) if self.teacher else None
        batch = batch.to(self.device)
        with torch.autocast(self.device.type, self.precision.dtype, enabled=self.precision.autocast):
            hidden_BTD = self._forward_pass(batch.ids_BT, segments_BT=batch.segments_BT)
            # Only supervised positions reach the head: prompt and padding would be most of its cost.
            hidden_ND = hidden_BTD.flatten(0, 1).index_select(0, batch.positions_N)
            _add_squares(squares_2, hidden_ND, batch.targets.is_struct_N)
            head_VD, weights = self.student.output_weight, self.options.loss
            parts = distill_loss(hidden_ND, head_VD, batch.targets, weights, counts, teacher=teacher)
            related = self.relations.loss(self.student, batch, positions) if self.relations else None
        return parts, related

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def restore(self, optimizer: dict[str, Any], scaler: dict[str, Any]) -> None:
        """ValueError for moments of other parameters. What steers the steps is what the options say now."""
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": optimizer["state"], "param_groups": groups})
        for parameter in self.student.parameters():
            kept = self.optimizer.state.get(parameter, {})
            moments = [kept.get(name) for name in _MOMENTS]
            if kept and not all(isinstance(one, Tensor) and one.shape == parameter.shape for one in moments):
                raise ValueError("moments of other parameters")
            if kept and not (isinstance(steps := kept.get("step"), Tensor) and steps.numel() == 1):
                raise ValueError("no number of steps")
        if scaler and self.precision.scaled:
            self.scaler.load_state_dict(scaler)


def _add_squares(squares_2: Tensor, hidden_ND: Tensor, is_struct_N: Tensor) -> None:
    """In the backward pass, add the squares of the gradient at `hidden_ND`: at tokens of structure, and at all."""

    def add(d_hidden_ND: Tensor) -> None:
        squares_N = d_hidden_ND.float().square().sum(dim=1)
        squares_2.add_(torch.stack([(squares_N * is_struct_N).sum(), squares_N.sum()]))

    hidden_ND.register_hook(add)  # type: ignore[no-untyped-call]
