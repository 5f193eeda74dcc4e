"""KD + CE + format loss from hidden states, chunk by chunk, so that logits [B, T, V] never exist in any precision.

At each supervised position, with student logits z, teacher candidates K, their log-masses ℓ_k and the other mass ℓ_o:

    s_k = z_k − LSE(z),  s_o = LSE(z outside K) − LSE(z)            the student on the teacher's K+1 cells
    q = softmax([ℓ_k, ℓ_o]/τ),  p = softmax([s_k, s_o]/τ)           coarsened first, tempered after
    KL = τ² Σ_a q_a (log q_a − log p_a),   CE = LSE(z) − z_y

KL and its gradient are zero exactly where the coarse distributions agree, at every τ. Tempering before coarsening
could not have this property, because a top-k row says nothing about the shape of the tail. In closed form

    dKL/dz_v = τ(p_v − q_v) for v in K,   τ(p_o − q_o)·softmax(z)_v/P_o elsewhere,   dCE/dz_v = softmax(z)_v − [v = y]

which takes three matmuls with the head and no autograd graph over the vocabulary. The gradients are computed in the
forward pass (as in Liger-Kernel's fused linear losses) and only scaled in the backward pass. Nothing waits for the
device. Where the teacher itself is there, its whole distribution takes the place of the cells (`whole_vocabulary`).

Shapes: N supervised positions, K candidates, D hidden, V vocabulary, n positions of one chunk.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from bitnet_core.model.chunks import positions_at_a_time
from bitnet_core.settings.values import LossWeights
from bitnet_core.traces.examples import Counts, Targets
from bitnet_core.training.whole_vocabulary import TeacherStates, WholeCells

_NEG_INF = float("-inf")


class LossParts(NamedTuple):
    """The loss of a micro-batch, in nats per token, as its share of the whole batch.

    `total` is the weighted sum and has the gradient; the other parts are unweighted and have none, each a mean over
    the positions that it is of. In the sum, though, the format loss is a mean over all positions: the few with
    structure would otherwise have most of the update. The parts of all micro-batches of a step add up to the means
    over the step. `agreement` is the share of KD positions at which the student's most likely token is the teacher's.
    """

    total: Tensor
    kl: Tensor
    ce: Tensor
    format: Tensor
    agreement: Tensor


def distill_loss(
    hidden_ND: Tensor,
    output_weight_VD: Tensor,
    targets: Targets,
    weights: LossWeights,
    counts: Counts,
    *,
    teacher: TeacherStates | None = None,
    chunk: int | None = None,
) -> LossParts:
    """The distillation loss of N supervised positions; the module's docstring has the formulas.

    `hidden_ND` are the student's hidden states at these positions, `output_weight_VD` is its head
    (`Student.output_weight`), `targets` is what the teacher says there: observed tokens, top-k ids and natural
    logprobs at temperature 1, other mass, and which positions have candidates or are JSON structure. `counts` are the
    positions behind each mean, over all micro-batches of the optimizer step. `chunk` is the number of positions at a
    time, chosen by the device unless given. With a `teacher`, its distribution over the vocabulary is distilled at
    every position, and the candidates of `targets` are not looked at.

    The total's gradient reaches `hidden_ND`, and `output_weight_VD` if that is trained. Matmuls run in autocast's
    dtype where autocast is on, the softmax and all sums in fp32 (fp64 for fp64 inputs). Raises ValueError when the
    candidates are the whole vocabulary.
    """
    vocab = output_weight_VD.shape[0]
    if teacher is None and targets.topk_ids_NK.shape[1] >= vocab:
        raise ValueError("the candidates must leave at least one token of the vocabulary to the other mass")
    recorded = torch.is_grad_enabled()
    trained_head = recorded and output_weight_VD.requires_grad
    needs_grad = trained_head or (recorded and hidden_ND.requires_grad)
    if chunk is None:
        device = hidden_ND.device.type
        # Under autocast each chunk also costs a conversion and a sum over [V, D], so there should be fewer.
        chunk = positions_at_a_time(vocab, device, 2 if torch.is_autocast_enabled(device) else 1)
    total, parts_4 = _FusedLoss.apply(  # type: ignore[no-untyped-call]
        hidden_ND,
        output_weight_VD,
        targets.at_least_one_candidate(),
        weights,
        counts,
        teacher,
        chunk,
        needs_grad,
        trained_head,
    )
    return LossParts(total, *parts_4.unbind())


class _FusedLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        targets: Targets,
        weights: LossWeights,
        counts: Counts,
        teacher: TeacherStates | None,
        chunk: int,
        needs_grad: bool,
        trained_head: bool,
    ) -> tuple[Tensor, Tensor]:
        device = hidden_ND.device.type
        narrow = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_ND.dtype
        wide = torch.float64 if hidden_ND.dtype == torch.float64 else torch.float32
        shares = (
            weights.kd * _inverse(counts.kd),
            weights.ce * _inverse(counts.ce),
            weights.format * _inverse(counts.ce),
        )
        # In units of the largest share, so that fp16 doesn't lose 1/N times a small probability.
        unit = (max(shares) or 1.0) if narrow == torch.float16 else 1.0
        with torch.autocast(device, enabled=False):
            head_VD = weight_VD.detach().to(narrow)
            rows_ND = hidden_ND.detach().to(narrow)
            sums_4 = torch.zeros(4, dtype=wide, device=hidden_ND.device)
            d_hidden_ND = torch.empty_like(rows_ND, dtype=wide) if needs_grad else None
            d_weight_VD = torch.empty_like(weight_VD, dtype=wide) if trained_head else None
            if d_weight_VD is not None and (narrow != wide or not len(targets)):
                d_weight_VD.zero_()
            # One buffer for all chunks: the kernel would zero a fresh one each time, page by page.
            size = (min(chunk, len(targets)), weight_VD.shape[0])
            buffer_nV = torch.empty(size, dtype=wide, device=hidden_ND.device)
            narrow_nV = buffer_nV if narrow == wide else torch.empty_like(buffer_nV, dtype=narrow)
            teacher_nV = None if teacher is None else torch.empty_like(buffer_nV)
            for start in range(0, len(targets), chunk):
                end = min(start + chunk, len(targets))
                rows_nD = rows_ND[start:end]
                z_nV, d_z_nV = buffer_nV[: end - start], narrow_nV[: end - start]
                torch.mm(rows_nD, head_VD.T, out=d_z_nV)
                if narrow != wide:
                    z_nV.copy_(d_z_nV)
                cells: _Cells | WholeCells
                if teacher is None or teacher_nV is None:
                    cells = _Cells(z_nV, targets.rows(start, end), weights.tau)
                else:
                    teacher.logits_(start, end, teacher_nV[: end - start])
                    rows = targets.rows(start, end)
                    cells = WholeCells(z_nV, teacher_nV[: end - start], teacher, rows, weights.tau)
                sums_4 += cells.sums()
                if d_hidden_ND is None:
                    continue
                cells.gradient_(*(share / unit for share in shares))
                if narrow != wide:
                    d_z_nV.copy_(z_nV)
                d_hidden_ND[start:end] = d_z_nV @ head_VD
                if d_weight_VD is None:
                    continue
                if narrow == wide:
                    d_weight_VD.addmm_(d_z_nV.T, rows_nD, beta=int(start > 0))  # beta 0: the memory is not read
                else:
                    d_weight_VD += d_z_nV.T @ rows_nD
        scale_4 = (*map(_inverse, (counts.kd, counts.ce, counts.format)), _inverse(counts.kd))
        parts_4 = sums_4 * torch.tensor(scale_4, dtype=wide).to(sums_4.device, non_blocking=True)
        format_weight = weights.format * counts.format * _inverse(counts.ce)
        total = weights.kd * parts_4[0] + weights.ce * parts_4[1] + format_weight * parts_4[2]
        if d_hidden_ND is not None:
            ctx.unit, ctx.dtypes = unit, (hidden_ND.dtype, weight_VD.dtype)
            ctx.save_for_backward(d_hidden_ND, d_weight_VD)
        ctx.mark_non_differentiable(parts_4)
        return total, parts_4

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found: list[Tensor | None] = list(ctx.saved_tensors)
        scale = grads[0] * ctx.unit
        # A scale of 1 is usual and needs no pass over [V, D]; reading it is free only where it is on the host.
        if scale.device.type != "cpu" or scale.item() != 1.0:
            found = [None if one is None else one * scale for one in found]
        typed = (None if one is None else one.to(dtype) for one, dtype in zip(found, ctx.dtypes, strict=True))
        return *typed, *[None] * 7


class _Cells:
    """One chunk of logits on the teacher's K+1 cells (A below). It overwrites `z_nV`, which becomes the gradient."""

    def __init__(self, z_nV: Tensor, targets: Targets, tau: float) -> None:
        self.targets, self.tau = targets, tau
        kd_n1 = targets.kd_valid_N[:, None]
        teacher_nK = torch.where(kd_n1, targets.topk_logprobs_NK.to(z_nV.dtype), _NEG_INF)
        teacher_n1 = torch.where(targets.kd_valid_N, targets.other_logprob_N.to(z_nV.dtype), 0.0)[:, None]
        self.valid_nK = teacher_nK > _NEG_INF
        # Padding has id 0, which may be a real token: it repeats the row's first real candidate instead.
        self.first_n1 = self.valid_nK.to(torch.int8).argmax(dim=1, keepdim=True)
        self.some_n1 = self.valid_nK.any(dim=1, keepdim=True)
        own_first_n1 = targets.topk_ids_NK.gather(1, self.first_n1)
        self.ids_nK = torch.where(self.valid_nK, targets.topk_ids_NK, own_first_n1)

        z_nK = z_nV.gather(1, self.ids_nK)
        z_n = z_nV.gather(1, targets.observed_N[:, None]).squeeze(1)
        # Relative to the tail's own maximum: relative to the global one, a small tail would underflow.
        z_nV.scatter_(1, self.ids_nK, torch.where(self.some_n1, _NEG_INF, z_nK))
        tail_max_n1 = z_nV.amax(dim=1, keepdim=True)
        self.tail_nV = z_nV.sub_(tail_max_n1).exp_()
        self.tail_sum_n1 = self.tail_nV.sum(dim=1, keepdim=True)
        tail_n1 = self.tail_sum_n1.log() + tail_max_n1

        z_cells_nA = torch.cat((z_nK.masked_fill(~self.valid_nK, _NEG_INF), tail_n1), dim=1)
        lse_n1 = z_cells_nA.logsumexp(dim=1, keepdim=True)
        self.student_nA = z_cells_nA - lse_n1
        log_q_nA = torch.log_softmax(torch.cat((teacher_nK, teacher_n1), dim=1) / tau, dim=1)
        log_p_nA = torch.log_softmax(self.student_nA / tau, dim=1)
        self.q_nA, self.p_nA = log_q_nA.exp(), log_p_nA.exp()
        gap_nA = torch.where(log_q_nA > _NEG_INF, log_q_nA - log_p_nA, 0.0)
        self.kl_n = tau * tau * (self.q_nA * gap_nA).sum(dim=1)
        self.ce_n = lse_n1.squeeze(1) - z_n
        rivals_n = torch.cat((z_cells_nA[:, 1:-1], tail_max_n1), dim=1).amax(dim=1)
        self.agree_n = z_cells_nA[:, 0] > rivals_n

    def sums(self) -> Tensor:
        """Σ KL over KD positions, Σ CE over all, Σ CE over structure, Σ top-1 agreement over KD positions."""
        kd_n, struct_n = self.targets.kd_valid_N, self.targets.is_struct_N
        return torch.stack(
            (
                torch.where(kd_n, self.kl_n, 0.0).sum(),
                self.ce_n.sum(),
                torch.where(struct_n, self.ce_n, 0.0).sum(),
                (kd_n & self.agree_n).sum().to(self.kl_n.dtype),
            )
        )

    def gradient_(self, kd_share: float, ce_share: float, format_share: float) -> None:
        """Overwrite the logits with d loss / d z, [n, V]."""
        dtype = self.tail_nV.dtype
        kd_n1 = self.targets.kd_valid_N[:, None].to(dtype) * (kd_share * self.tau)
        ce_n1 = self.targets.is_struct_N[:, None].to(dtype) * format_share + ce_share
        d_cells_nA = kd_n1 * (self.p_nA - self.q_nA) + ce_n1 * self.student_nA.exp()
        d_z_nV = self.tail_nV.mul_(d_cells_nA[:, -1:] / self.tail_sum_n1)
        # Padding must write what the first real candidate writes; rows without candidates keep their tail.
        d_nK = torch.where(self.valid_nK, d_cells_nA[:, :-1], d_cells_nA.gather(1, self.first_n1))
        d_nK = torch.where(self.some_n1, d_nK, d_z_nV.gather(1, self.ids_nK))
        d_z_nV.scatter_(1, self.ids_nK, d_nK)
        d_z_nV.scatter_add_(1, self.targets.observed_N[:, None], -ce_n1)


def _inverse(count: int) -> float:
    return 1.0 / count if count else 0.0
