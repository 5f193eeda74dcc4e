"""The loss written the slow way: all logits at once, one position at a time, with autograd in float64."""

import math

import torch
from torch import Tensor

from bitnet_core.settings.values import LossWeights
from bitnet_core.traces.examples import Counts, Targets


def reference_loss(
    hidden: Tensor, weight: Tensor, targets: Targets, weights: LossWeights, counts: Counts
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """(total, kl, ce, format, agreement) with a graph through `hidden` and `weight`."""
    logits = hidden.double() @ weight.double().T
    zero = logits.sum() * 0
    kl, ce, fmt, agree = zero, zero, zero, 0
    for i in range(logits.shape[0]):
        z = logits[i]
        observed = int(targets.observed_N[i])
        nll = torch.logsumexp(z, 0) - z[observed]
        ce = ce + nll
        if targets.is_struct_N[i]:
            fmt = fmt + nll
        if targets.kd_valid_N[i]:
            pairs = zip(targets.topk_ids_NK[i].tolist(), targets.topk_logprobs_NK[i].tolist(), strict=True)
            kept = [(token, logprob) for token, logprob in pairs if logprob != -math.inf]
            ids = [token for token, _ in kept]
            teacher = torch.tensor([lp for _, lp in kept] + [float(targets.other_logprob_N[i])], dtype=torch.float64)
            tail = torch.ones_like(z, dtype=torch.bool)
            tail[ids] = False
            whole = torch.logsumexp(z, 0)
            student = torch.cat([z[ids] - whole, (torch.logsumexp(z[tail], 0) - whole)[None]])
            kl = kl + tempered_kl(teacher, student, weights.tau)
            agree += int(bool(ids) and int(z.argmax()) == int(targets.topk_ids_NK[i, 0]))
    kl = kl / counts.kd if counts.kd else zero
    ce = ce / counts.ce if counts.ce else zero
    total = weights.kd * kl + weights.ce * ce + weights.format * (fmt / counts.ce if counts.ce else zero)
    fmt = fmt / counts.format if counts.format else zero
    return total, kl, ce, fmt, agree / counts.kd if counts.kd else 0.0


def tempered_kl(teacher: Tensor, student: Tensor, tau: float) -> Tensor:
    q = torch.softmax(teacher / tau, 0)
    log_p = torch.log_softmax(student / tau, 0)
    terms = [q[a] * (q[a].log() - log_p[a]) for a in range(len(q)) if q[a] > 0]
    return tau * tau * torch.stack(terms).sum()
