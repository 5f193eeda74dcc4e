"""The loss of a teacher that is there, against the slow way: all logits at once, with autograd in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitnet_core.settings.values import LossWeights
from bitnet_core.traces.examples import Counts, Targets
from bitnet_core.training.losses import LossParts, distill_loss
from bitnet_core.training.whole_vocabulary import TeacherStates

TAUS = [0.5, 1.0, 1.3, 4.0]
V, D, E = 37, 12, 9


def problem(seed: int, n: int, sharpness: float) -> tuple[Tensor, Tensor, Tensor, Tensor, Targets]:
    rng = torch.Generator().manual_seed(seed)
    hidden_ND = torch.randn(n, D, dtype=torch.float64, generator=rng)
    head_VD = torch.randn(V, D, dtype=torch.float64, generator=rng) * sharpness / D**0.5
    states_NE = torch.randn(n, E, dtype=torch.float64, generator=rng)
    teacher_VE = torch.randn(V, E, dtype=torch.float64, generator=rng) * sharpness / E**0.5
    targets = Targets(
        observed_N=torch.randint(0, V, (n,), generator=rng),
        topk_ids_NK=torch.zeros((n, 0), dtype=torch.int64),
        topk_logprobs_NK=torch.zeros((n, 0)),
        other_logprob_N=torch.zeros(n),
        kd_valid_N=torch.ones(n, dtype=torch.bool),
        is_struct_N=torch.rand(n, generator=rng) > 0.6,
    )
    return hidden_ND, head_VD, states_NE, teacher_VE, targets


def slow(
    hidden_ND: Tensor, head_VD: Tensor, teacher: TeacherStates, targets: Targets, weights: LossWeights, counts: Counts
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Position by position: (total, kl, ce, format, agreement)."""
    kl = ce = structure = hidden_ND.sum() * 0
    agree = 0
    for place in range(len(targets)):
        z_V = head_VD @ hidden_ND[place]
        y_V = teacher.head_VE @ teacher.states_NE[place]
        student = torch.distributions.Categorical(logits=z_V / weights.tau)
        other = torch.distributions.Categorical(logits=y_V / weights.tau)
        pair = (student, other) if teacher.reverse else (other, student)
        kl = kl + weights.tau**2 * torch.distributions.kl_divergence(*pair)
        if not teacher.own_text:
            nll = -torch.log_softmax(z_V, 0)[targets.observed_N[place]]
            ce = ce + nll
            structure = structure + (nll if targets.is_struct_N[place] else 0)
        agree += int(z_V.argmax() == y_V.argmax())
    kl, ce, shared, structure = (
        part / count if count else part
        for part, count in ((kl, counts.kd), (ce, counts.ce), (structure, counts.ce), (structure, counts.format))
    )
    total = weights.kd * kl + weights.ce * ce + weights.format * shared
    return total, kl, ce, structure, agree / max(1, counts.kd)


def gradients(
    hidden_ND: Tensor, head_VD: Tensor, teacher: TeacherStates, targets: Targets, weights: LossWeights, chunk: int
) -> tuple[LossParts, Tensor, Tensor]:
    hidden_ND, head_VD = hidden_ND.clone().requires_grad_(), head_VD.clone().requires_grad_()
    counts = Counts(len(targets), len(targets), int(targets.is_struct_N.sum()))
    parts = distill_loss(hidden_ND, head_VD, targets, weights, counts, teacher=teacher, chunk=chunk)
    parts.total.backward()
    return parts, hidden_ND.grad, head_VD.grad


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 9),
    st.sampled_from(TAUS),
    st.sampled_from([0.0, 0.25]),
    st.sampled_from([0.3, 2.0, 12.0]),
    st.integers(1, 9),
    st.booleans(),
    st.booleans(),
)
def test_both_divergences_and_their_gradients_equal_the_slow_twin(
    seed: int, n: int, tau: float, ce: float, sharpness: float, chunk: int, reverse: bool, own_text: bool
) -> None:
    hidden_ND, head_VD, states_NE, teacher_VE, targets = problem(seed, n, sharpness)
    teacher = TeacherStates(states_NE, teacher_VE, reverse, own_text)
    weights = LossWeights(tau=tau, ce=ce, format=0.2)
    parts, d_hidden_ND, d_head_VD = gradients(hidden_ND, head_VD, teacher, targets, weights, chunk)
    slow_ND, slow_VD = hidden_ND.clone().requires_grad_(), head_VD.clone().requires_grad_()
    counts = Counts(n, n, int(targets.is_struct_N.sum()))
    *wanted, agreement = slow(slow_ND, slow_VD, teacher, targets, weights, counts)
    (wanted[0] + slow_VD.sum() * 0).backward()
    for found, expected in zip(parts[:4], wanted, strict=True):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-8, atol=1e-10)
    assert parts.agreement.item() == pytest.approx(agreement)
    torch.testing.assert_close(d_hidden_ND, slow_ND.grad, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(d_head_VD, slow_VD.grad, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("tau", TAUS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_teacher_equal_to_the_student_gives_no_loss_and_no_gradient(tau: float, reverse: bool) -> None:
    hidden_ND, head_VD, _, _, targets = problem(3, 6, 4.0)
    weights = LossWeights(tau=tau, ce=0.0, format=0.0)
    equal = TeacherStates(hidden_ND, head_VD, reverse)
    parts, d_hidden_ND, d_head_VD = gradients(hidden_ND, head_VD, equal, targets, weights, 4)
    assert abs(parts.kl.item()) < 1e-12
    assert parts.agreement.item() == 1
    assert d_hidden_ND.abs().max() < 1e-13 and d_head_VD.abs().max() < 1e-13
    # Not merely small everywhere: another distribution is seen, at every temperature.
    other = TeacherStates(hidden_ND * 1.01, head_VD, reverse)
    parts, d_hidden_ND, _ = gradients(hidden_ND, head_VD, other, targets, weights, 4)
    assert parts.kl.item() > 1e-9
    assert d_hidden_ND.abs().max() > 1e-7


def test_without_other_mass_it_is_the_loss_of_the_traces() -> None:
    """With all tokens but one as candidates, Other is that one token: the two losses are the same."""
    hidden_ND, head_VD, states_NE, teacher_VE, targets = problem(5, 7, 2.0)
    logprobs_NV, ids_NV = torch.log_softmax(states_NE @ teacher_VE.T, dim=1).sort(dim=1, descending=True)
    rows = Targets(
        targets.observed_N,
        ids_NV[:, :-1],
        logprobs_NV[:, :-1],
        logprobs_NV[:, -1],
        targets.kd_valid_N,
        targets.is_struct_N,
    )
    weights, counts = LossWeights(tau=1.3), Counts(7, 7, int(targets.is_struct_N.sum()))
    of_rows = distill_loss(hidden_ND, head_VD, rows, weights, counts)
    whole = distill_loss(hidden_ND, head_VD, targets, weights, counts, teacher=TeacherStates(states_NE, teacher_VE))
    torch.testing.assert_close(torch.stack(whole), torch.stack(of_rows))
