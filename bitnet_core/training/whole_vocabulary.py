"""The distillation loss where the teacher's whole distribution is known, one chunk of positions at a time.

With student logits z, teacher logits y, p = softmax(z/τ) and q = softmax(y/τ), at each position

    forward KL = τ² Σ_v q_v (log q_v − log p_v),    dKL/dz_v = τ (p_v − q_v)
    reverse KL = τ² Σ_v p_v (log p_v − log q_v),    dKL/dz_v = τ p_v (log p_v − log q_v − Σ_u p_u (log p_u − log q_u))

Both are zero, and so are their gradients, exactly where the distributions agree. The forward one is what `losses`
computes from a teacher's row when its candidates are the whole vocabulary; the reverse one is that of MiniLLM and
GKD (arXiv 2306.08543, 2306.13649). Cross-entropy and agreement are those of `losses`.

Shapes: N supervised positions, n those of one chunk, E the teacher's hidden size, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bitnet_core.traces.examples import Targets


@dataclass(frozen=True)
class TeacherStates:
    """A teacher at N positions: its logits are `states_NE @ head_VE.T`, computed in the type of these two."""

    states_NE: Tensor
    head_VE: Tensor
    reverse: bool = False
    """Which KL: of the student from the teacher (reverse), or of the teacher from the student."""
    own_text: bool = False
    """Whether the student wrote the tokens itself: then there is no cross-entropy, which would only repeat them."""

    def logits_(self, start: int, end: int, out_nV: Tensor) -> None:
        """Write the logits of positions `start` to `end` to `out_nV`."""
        rows_nE = self.states_NE[start:end]
        if rows_nE.dtype == out_nV.dtype:
            torch.mm(rows_nE, self.head_VE.T, out=out_nV)
        else:
            out_nV.copy_(rows_nE @ self.head_VE.T)


class WholeCells:
    """One chunk of logits of both. It overwrites both buffers; `z_nV` becomes the gradient."""

    def __init__(
        self, z_nV: Tensor, teacher_nV: Tensor, teacher: TeacherStates, targets: Targets, tau: float
    ) -> None:
        self.targets, self.teacher, self.tau = targets, teacher, tau
        self.agree_n = z_nV.argmax(dim=1) == teacher_nV.argmax(dim=1)
        z_n1 = z_nV.gather(1, targets.observed_N[:, None])
        self.lse_n1 = z_nV.logsumexp(dim=1, keepdim=True)
        self.ce_n = (self.lse_n1 - z_n1).squeeze(1)
        self.log_q_nV = _log_softmax_(teacher_nV.div_(tau))[0]
        self.log_p_nV, self.tempered_lse_n1 = _log_softmax_(z_nV.div_(tau))
        # The divergence of the first from the second, each weighted with the first.
        first, second = (self.log_p_nV, self.log_q_nV) if teacher.reverse else (self.log_q_nV, self.log_p_nV)
        self.gap_n1 = (first.exp() * (first - second)).sum(dim=1, keepdim=True)

    def sums(self) -> Tensor:
        """Σ KL, Σ CE, Σ CE over structure, Σ top-1 agreement."""
        ce_n = torch.zeros_like(self.ce_n) if self.teacher.own_text else self.ce_n
        return torch.stack(
            (
                self.tau * self.tau * self.gap_n1.sum(),
                ce_n.sum(),
                torch.where(self.targets.is_struct_N, ce_n, 0.0).sum(),
                self.agree_n.sum().to(ce_n.dtype),
            )
        )

    def gradient_(self, kd_share: float, ce_share: float, format_share: float) -> None:
        """Overwrite the logits with d loss / d z, [n, V]."""
        ce_n1 = self.targets.is_struct_N[:, None].to(self.log_p_nV.dtype) * format_share + ce_share
        plain_nV: Tensor | None = None
        if not self.teacher.own_text:
            plain_nV = (self.log_p_nV * self.tau).add_(self.tempered_lse_n1 * self.tau - self.lse_n1).exp_()
        if self.teacher.reverse:
            self.log_q_nV.neg_().add_(self.log_p_nV).sub_(self.gap_n1)
            d_z_nV = self.log_p_nV.exp_().mul_(self.log_q_nV)
        else:
            d_z_nV = self.log_p_nV.exp_().sub_(self.log_q_nV.exp_())
        d_z_nV.mul_(kd_share * self.tau)
        if plain_nV is not None:
            d_z_nV.addcmul_(plain_nV, ce_n1)
            d_z_nV.scatter_add_(1, self.targets.observed_N[:, None], -ce_n1)


def _log_softmax_(x_nV: Tensor) -> tuple[Tensor, Tensor]:
    """log softmax in place, and the log-sum-exp that was taken off."""
    lse_n1 = x_nV.logsumexp(dim=1, keepdim=True)
    return x_nV.sub_(lse_n1), lse_n1
