"""Figures of a running training: loss, speed, memory, ternary weights. Only reading them waits for the device."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from bitnet_core.model.layers import bit_linears
from bitnet_core.model.packing import pack, packed_rows, unpack
from bitnet_core.model.quant import levels, ternarize
from bitnet_core.model.student import Student
from bitnet_core.process import peak_rss_bytes
from bitnet_core.training.step import StepResult

PARTS = ("loss", "kl", "ce", "format", "agreement")
# A loss beyond both limits is far above the lowest one; three such reports in a row are a divergence.
_FAR_ABOVE, _NATS_ABOVE, _REPORTS_ABOVE = 1.5, 1.0, 3
_STEPS_TOGETHER, _FEWEST_STEPS = 64, 8
"""Losses are compared as means of at least this many steps, fewer at the start of a training: the lowest loss of a
single small batch is that of an easy one."""


@dataclass
class Meter:
    """Sums of loss parts on the device, and the time spent in steps, without evaluations and checkpoints.

    Steps on text that the student wrote are summed apart: they have no cross-entropy, and maybe another divergence.
    A step without teacher's logprobs or without JSON structure has no mean of these, which is not a mean of 0.
    """

    sums_5: Tensor | None = None
    steps: int = 0
    without_kd: int = 0
    without_format: int = 0
    tokens: int = 0
    seconds: float = 0.0
    own_sums_5: Tensor | None = None
    own_steps: int = 0
    relation_sum: Tensor | None = None
    format_share_sum: Tensor | None = None

    def __post_init__(self) -> None:
        of_parts, single = (self.sums_5, self.own_sums_5), (self.relation_sum, self.format_share_sum)
        sums = [(one, (len(PARTS),)) for one in of_parts] + [(one, ()) for one in single]
        if any(one is not None and one.shape != shape for one, shape in sums):
            raise ValueError("sums of other parts than those of the loss")

    def add(self, done: StepResult, seconds: float) -> None:
        """Add a completed step."""
        self.relation_sum = _sum(self.relation_sum, done.relation)
        self.format_share_sum = _sum(self.format_share_sum, done.format_share)
        if done.own_text:
            self.own_sums_5 = _sum(self.own_sums_5, done.parts_5)
            self.own_steps += 1
        else:
            self.sums_5 = _sum(self.sums_5, done.parts_5)
            self.steps += 1
            self.without_kd += not done.counts.kd
            self.without_format += not done.counts.format
        self.tokens += done.tokens
        self.seconds += seconds

    @property
    def completed(self) -> int:
        """Steps since the last reading."""
        return self.steps + self.own_steps

    def read(self) -> dict[str, float]:
        """Means since the last reading, and supervised tokens per second; empty without a completed step.

        `loss` is that of the student's own text only where there was no other step. A part that no step had is left
        out.
        """
        if self.sums_5 is None and self.own_sums_5 is None:
            return {}
        found = {"tokens_per_s": self.tokens / max(self.seconds, 1e-9)}
        if self.own_sums_5 is not None:
            loss, kl, *_ = (self.own_sums_5 / self.own_steps).tolist()
            found |= {"loss": loss, "own_text_kl": kl}
        if self.sums_5 is not None:
            kd, structured = self.steps - self.without_kd, self.steps - self.without_format
            steps_5 = (self.steps, kd, self.steps, structured, kd)
            means_5 = (self.sums_5 / self.steps).tolist()
            found |= {
                name: mean * self.steps / steps
                for name, mean, steps in zip(PARTS, means_5, steps_5, strict=True)
                if steps
            }
            if structured and self.format_share_sum is not None:
                found["format_share"] = float(self.format_share_sum) / structured
        if self.relation_sum is not None:
            found["relation"] = float(self.relation_sum) / self.completed
        vars(self).update(vars(Meter()))
        return found

    def state(self) -> dict[str, Any]:
        """The fields, on the CPU: `Meter(**state)` is the inverse."""
        return {name: value.cpu() if isinstance(value, Tensor) else value for name, value in vars(self).items()}


def _sum(before: Tensor | None, one: Tensor | None) -> Tensor | None:
    if before is None or one is None:
        return before if one is None else one
    return before.to(one.device) + one


def peak_memory(device: torch.device) -> dict[str, Any]:
    """Peak resident bytes of this process, and of the device where it has memory of its own."""
    found: dict[str, Any] = {"peak_rss_bytes": peak_rss_bytes()}
    if device.type == "cuda":
        found["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


@dataclass
class Divergence:
    """Tells a loss that keeps climbing from one that fluctuates, by the means between two reports."""

    lowest: float = math.inf
    above: int = 0
    recent: list[tuple[float, int]] = field(default_factory=list)
    """The last reports: their losses and steps."""

    def add(self, loss: float, steps: int) -> None:
        """A report: the mean loss of some steps, and how many."""
        self.recent.append((loss, steps))
        while sum(steps for _, steps in self.recent[1:]) >= _STEPS_TOGETHER:
            del self.recent[0]
        mean = _mean(self.recent)
        self.above = self.above + 1 if self._is_far(mean) else 0
        if sum(steps for _, steps in self.recent) >= _FEWEST_STEPS:
            self.lowest = min(self.lowest, mean)

    @property
    def suspected(self) -> bool:
        return self.above > 0 or self._is_far(_mean(self.recent[-_REPORTS_ABOVE:]))

    @property
    def certain(self) -> bool:
        return self.above >= _REPORTS_ABOVE

    def state(self) -> dict[str, Any]:
        return {"lowest": self.lowest, "above": self.above, "recent": self.recent}

    def _is_far(self, loss: float) -> bool:
        return loss > max(_FAR_ABOVE * self.lowest, self.lowest + _NATS_ABOVE)


def _mean(reports: Sequence[tuple[float, int]]) -> float:
    steps = sum(count for _, count in reports)
    return sum(loss * count for loss, count in reports) / steps if steps else 0.0


class TernaryWatch:
    """How the ternary weights move: the share at zero, and the share that changed since the last reading."""

    def __init__(self) -> None:
        self._before: list[Tensor] | None = None

    @torch.no_grad()
    def read(self, student: Student) -> dict[str, Any]:
        """Shares over all BitLinears and by layer; the first reading has no changes."""
        packed: list[Tensor] = []
        zeros, changes, totals = [], [], []
        for layer in student.model.layers:
            zero, changed, total = [], [], 0
            for linear in bit_linears(layer):
                codes_OI, _scale = ternarize(linear.weight)
                zero.append((codes_OI == 0).sum())
                if self._before is not None:
                    before_OI = unpack(self._before[len(packed)].to(codes_OI.device), linear.out_features)
                    changed.append((codes_OI != before_OI).sum())
                # At two bits a weight, as they are kept in memory and in checkpoints.
                packed.append(pack(codes_OI))
                total += codes_OI.numel()
            zeros.append(torch.stack(zero).sum())
            changes += [torch.stack(changed).sum()] if changed else []
            totals.append(total)
        self._before = packed
        found: dict[str, Any] = {}
        for share, by_layer, counts in (
            ("zero_weight_fraction", "zero_weights_by_layer", zeros),
            ("sign_change_fraction", "sign_changes_by_layer", changes),
        ):
            if counts:
                counts_L = torch.stack(counts).tolist()
                found[share] = sum(counts_L) / sum(totals)
                found[by_layer] = [count / total for count, total in zip(counts_L, totals, strict=True)]
        return found

    def state(self) -> list[Tensor] | None:
        return None if self._before is None else [codes.cpu() for codes in self._before]

    def restore(self, state: list[Tensor] | None, student: Student) -> None:
        """ValueError for codes that are not of this student's BitLinears."""
        shapes = [(packed_rows(one.out_features), one.in_features) for one in student.bit_linears()]
        if state is not None and [(*one.shape,) for one in state if one.dtype == torch.uint8] != shapes:
            raise ValueError("ternary weights of another student")
        self._before = state


@torch.no_grad()
def a4_health(student: Student, ids_BT: Tensor) -> dict[str, float]:
    """Of the inputs that the flip lowers, at 4 bits: the share at the outermost levels, and the share at 0.

    A scale of absmax/7 clips nothing; outliers show as inputs that nearly all become 0.
    """
    outermost, zero, total = [], [], 0
    largest = levels(4)

    def observe(x: Tensor) -> None:
        nonlocal total
        scale = x.float().abs().amax(dim=-1, keepdim=True).clamp_(min=1e-5) / largest
        codes = (x.float() / scale).round_().abs_()
        outermost.append((codes >= largest).sum())
        zero.append((codes == 0).sum())
        total += codes.numel()

    with student.observed_inputs(observe, at_bits=4):
        student(ids_BT)
    counts_2 = torch.stack((torch.stack(outermost).sum(), torch.stack(zero).sum())).tolist()
    return {"a4_clipped_fraction": counts_2[0] / total, "a4_zero_fraction": counts_2[1] / total}
