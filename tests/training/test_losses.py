"""The fused loss against the slow one, and the properties that it was chosen for."""

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bitnet_core.settings.values import LossWeights
from bitnet_core.traces.examples import Counts, Targets
from bitnet_core.training.losses import LossParts, distill_loss
from tests.training.losses_reference import reference_loss

TAUS = [0.5, 1.0, 1.3, 2.0, 4.0, 10.0]
V, D = 37, 12


def problem(
    seed: int, n: int = 7, k: int = 5, *, sharpness: float = 2.0, holes: bool = True
) -> tuple[Tensor, Tensor, Targets]:
    """Random float64 hidden states, head and teacher rows with padding, invalid rows and -inf masses."""
    rng = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, D, dtype=torch.float64, generator=rng)
    weight = torch.randn(V, D, dtype=torch.float64, generator=rng) * sharpness / D**0.5
    logprobs = torch.log_softmax(torch.randn(n, V, dtype=torch.float64, generator=rng) * sharpness, dim=1)
    top, ids = logprobs.topk(max(k, 1), dim=1)
    other = torch.log1p(-top.exp().sum(1).clamp(max=1 - 1e-9))
    top, ids = top[:, :k], ids[:, :k]
    if k == 0:
        other = torch.zeros(n, dtype=torch.float64)
    valid = torch.ones(n, dtype=torch.bool)
    if holes:
        keep = torch.randint(0, k + 1, (n, 1), generator=rng)
        padding = torch.arange(k)[None] >= keep
        top, ids = top.masked_fill(padding, -torch.inf), ids.masked_fill(padding, 0)
        masses = top.exp().sum(1)
        other = torch.log1p(-masses.clamp(max=1 - 1e-9))
        valid = torch.rand(n, generator=rng) > 0.25
    return (
        hidden,
        weight,
        Targets(
            observed_N=torch.randint(0, V, (n,), generator=rng),
            topk_ids_NK=ids,
            topk_logprobs_NK=top,
            other_logprob_N=other,
            kd_valid_N=valid,
            is_struct_N=torch.rand(n, generator=rng) > 0.6,
        ),
    )


def counts_of(targets: Targets) -> Counts:
    return Counts(int(targets.kd_valid_N.sum()), len(targets), int(targets.is_struct_N.sum()))


def gradients(
    hidden: Tensor, weight: Tensor, targets: Targets, weights: LossWeights, chunk: int | None = None
) -> tuple[LossParts, Tensor, Tensor]:
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    parts = distill_loss(hidden, weight, targets, weights, counts_of(targets), chunk=chunk)
    parts.total.backward()
    return parts, hidden.grad, weight.grad


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(0, 9),
    st.integers(0, 6),
    st.sampled_from(TAUS),
    st.sampled_from([0.0, 0.25, 3.0]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([0.3, 2.0, 12.0]),
    st.integers(1, 9),
)
def test_value_and_gradient_equal_the_slow_twin(
    seed: int, n: int, k: int, tau: float, ce: float, kd: float, sharpness: float, chunk: int
) -> None:
    hidden, weight, targets = problem(seed, n, k, sharpness=sharpness)
    weights = LossWeights(tau=tau, ce=ce, format=0.2, kd=kd)
    parts, d_hidden, d_weight = gradients(hidden, weight, targets, weights, chunk)
    slow_hidden, slow_weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    total, kl, ce_mean, fmt, agreement = reference_loss(
        slow_hidden, slow_weight, targets, weights, counts_of(targets)
    )
    total.backward()
    for got, expected in zip(parts[:4], (total, kl, ce_mean, fmt), strict=True):
        torch.testing.assert_close(got.detach(), expected.detach(), rtol=1e-9, atol=1e-11)
    assert parts.agreement.item() == pytest.approx(agreement)
    torch.testing.assert_close(d_hidden, slow_hidden.grad, rtol=1e-8, atol=1e-11)
    torch.testing.assert_close(d_weight, slow_weight.grad, rtol=1e-8, atol=1e-11)
    alone = hidden.clone().requires_grad_()
    distill_loss(alone, weight, targets, weights, counts_of(targets), chunk=chunk).total.backward()
    assert weight.grad is None and torch.equal(alone.grad, d_hidden)


@pytest.mark.parametrize("tau", TAUS)
def test_zero_with_zero_gradient_exactly_at_coarse_agreement(tau: float) -> None:
    hidden, weight, targets = problem(3, n=6, holes=False, sharpness=4.0)
    logprobs = torch.log_softmax(hidden @ weight.T, dim=1)
    top, ids = logprobs.topk(5, dim=1)
    tail = torch.ones_like(logprobs, dtype=torch.bool).scatter(1, ids, False)
    other = logprobs.masked_fill(~tail, -torch.inf).logsumexp(1)
    agreeing = dataclasses.replace(targets, topk_ids_NK=ids, topk_logprobs_NK=top, other_logprob_N=other)
    parts, d_hidden, d_weight = gradients(hidden, weight, agreeing, LossWeights(tau=tau, ce=0.0, format=0.0))
    assert abs(parts.kl.item()) < 1e-12 * max(1, tau * tau)
    assert d_hidden.abs().max() < 1e-13 * max(1, tau)
    assert d_weight.abs().max() < 1e-13 * max(1, tau)
    # Not merely small everywhere: a hundredth of a nat on one candidate is seen, at every temperature.
    nudged = top.clone()
    nudged[:, 1] += 0.01
    off = dataclasses.replace(agreeing, topk_logprobs_NK=nudged)
    parts, d_hidden, _ = gradients(hidden, weight, off, LossWeights(tau=tau, ce=0.0, format=0.0))
    assert parts.kl.item() > 1e-9
    assert d_hidden.abs().max() > 1e-7


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(TAUS))
def test_kl_is_never_negative_and_ignores_the_order_of_candidates(seed: int, tau: float) -> None:
    hidden, weight, targets = problem(seed)
    weights = LossWeights(tau=tau)
    parts = distill_loss(hidden, weight, targets, weights, counts_of(targets))
    assert parts.kl.item() >= -1e-12
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    shuffled = dataclasses.replace(
        targets,
        topk_ids_NK=targets.topk_ids_NK[:, order],
        topk_logprobs_NK=targets.topk_logprobs_NK[:, order],
    )
    again = distill_loss(hidden, weight, shuffled, weights, counts_of(targets))
    torch.testing.assert_close(again.total, parts.total, rtol=1e-11, atol=1e-12)


def test_the_kl_says_nothing_about_the_shape_of_the_tail() -> None:
    _, _, targets = problem(5, n=4, holes=False)
    z = torch.randn(4, V, dtype=torch.float64)
    tail = torch.ones(4, V, dtype=torch.bool).scatter(1, targets.topk_ids_NK, False)
    reshaped = z.clone()
    for row in range(4):
        values = z[row][tail[row]]
        other = torch.randn_like(values) * 3
        reshaped[row][tail[row]] = other - other.logsumexp(0) + values.logsumexp(0)
    eye, weights = torch.eye(V, dtype=torch.float64), LossWeights(tau=1.3, ce=0.0, format=0.0)
    one = distill_loss(z, eye, targets, weights, counts_of(targets)).kl
    two = distill_loss(reshaped, eye, targets, weights, counts_of(targets)).kl
    torch.testing.assert_close(one, two, rtol=1e-11, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_the_whole_kl_is_the_coarse_one_and_that_of_the_tail(seed: int, k: int) -> None:
    """KL(P‖S) = KL(coarse) + P_o · KL(tail ‖ tail): the loss leaves out exactly what a top-k row does not say."""
    rng = torch.Generator().manual_seed(seed)
    teacher, student = (
        torch.log_softmax(torch.randn(4, V, dtype=torch.float64, generator=rng) * 2, dim=1) for _ in range(2)
    )
    top, ids = teacher.topk(k, dim=1)
    tail = torch.ones_like(teacher, dtype=torch.bool).scatter(1, ids, False)
    other, student_other = (one.masked_fill(~tail, -torch.inf).logsumexp(1) for one in (teacher, student))
    _, _, targets = problem(seed, n=4, holes=False)
    targets = dataclasses.replace(targets, topk_ids_NK=ids, topk_logprobs_NK=top, other_logprob_N=other)
    coarse = distill_loss(
        student, torch.eye(V, dtype=torch.float64), targets, LossWeights(tau=1.0), counts_of(targets)
    )
    whole = (teacher.exp() * (teacher - student)).sum(1)
    gaps = (teacher - other[:, None]) - (student - student_other[:, None])
    of_tail = (torch.where(tail, (teacher - other[:, None]).exp() * gaps, 0.0)).sum(1)
    expected = (whole - other.exp() * of_tail).mean()
    torch.testing.assert_close(coarse.kl, expected, rtol=1e-9, atol=1e-11)


def test_the_order_of_positions_changes_nothing() -> None:
    hidden, weight, targets = problem(8, n=17)
    order = torch.randperm(17, generator=torch.Generator().manual_seed(1))
    shuffled = Targets(*(getattr(targets, field.name)[order] for field in dataclasses.fields(Targets)))
    one, d_hidden, d_weight = gradients(hidden, weight, targets, LossWeights(), chunk=5)
    two, e_hidden, e_weight = gradients(hidden[order], weight, shuffled, LossWeights(), chunk=5)
    torch.testing.assert_close(torch.stack(two), torch.stack(one), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(e_hidden, d_hidden[order], rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(e_weight, d_weight, rtol=1e-11, atol=1e-13)


class _Largest(TorchDispatchMode):
    """Records the most rows of any tensor as wide as the vocabulary."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.vocab, self.rows = vocab, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and self.vocab in tensor.shape:
                self.rows = max(self.rows, tensor.numel() // self.vocab)
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_of_all_positions_and_the_vocabulary_exists(dtype: torch.dtype) -> None:
    """Neither in the forward nor in the backward pass: at most a chunk of rows, or the D rows of the head."""
    positions, chunk = 96, 16
    rng = torch.Generator().manual_seed(0)
    _, _, targets = problem(0, n=positions, holes=False)
    hidden = torch.randn(positions, D, generator=rng).requires_grad_()
    head = torch.randn(V, D, generator=rng).requires_grad_()
    with _Largest(V) as seen:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            parts = distill_loss(hidden, head, targets, LossWeights(), counts_of(targets), chunk=chunk)
        parts.total.backward()
    assert seen.rows == max(chunk, D)
    with _Largest(V) as seen:  # and the check does see one
        torch.nn.functional.cross_entropy(hidden @ head.T, targets.observed_N).backward()
    assert seen.rows == positions


def test_chunks_micro_batches_and_padding_candidates_change_nothing() -> None:
    hidden, weight, targets = problem(11, n=24)
    weights = LossWeights()
    whole, d_hidden, d_weight = gradients(hidden, weight, targets, weights)
    for chunk in (1, 5, 23, 100):
        parts, again_hidden, again_weight = gradients(hidden, weight, targets, weights, chunk)
        torch.testing.assert_close(torch.stack(parts), torch.stack(whole), rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(again_hidden, d_hidden, rtol=1e-11, atol=1e-13)
        torch.testing.assert_close(again_weight, d_weight, rtol=1e-11, atol=1e-13)

    shared = weight.clone().requires_grad_()
    sums = torch.zeros(5, dtype=torch.float64)
    for start, end in [(0, 3), (3, 17), (17, 24)]:
        parts = distill_loss(hidden[start:end], shared, targets.rows(start, end), weights, counts_of(targets))
        parts.total.backward()
        sums += torch.stack(parts).detach()
    torch.testing.assert_close(sums, torch.stack(whole).detach(), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(shared.grad, d_weight, rtol=1e-11, atol=1e-13)

    wider = dataclasses.replace(
        targets,
        topk_ids_NK=torch.cat([targets.topk_ids_NK, torch.zeros(24, 3, dtype=torch.long)], dim=1),
        topk_logprobs_NK=torch.cat([targets.topk_logprobs_NK, torch.full((24, 3), -torch.inf)], dim=1),
    )
    parts, again_hidden, _ = gradients(hidden, weight, wider, weights)
    torch.testing.assert_close(torch.stack(parts), torch.stack(whole), rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(again_hidden, d_hidden, rtol=1e-11, atol=1e-13)


def test_rows_without_a_teacher_cost_only_cross_entropy() -> None:
    hidden, weight, targets = problem(2, n=9)
    nobody = dataclasses.replace(
        targets,
        kd_valid_N=torch.zeros(9, dtype=torch.bool),
        topk_logprobs_NK=torch.full_like(targets.topk_logprobs_NK, torch.nan),
        other_logprob_N=torch.full_like(targets.other_logprob_N, torch.nan),
    )
    parts, d_hidden, d_weight = gradients(hidden, weight, nobody, LossWeights(tau=1.3, ce=0.25, format=0.0))
    assert parts.kl.item() == 0
    assert parts.agreement.item() == 0
    expected = hidden.clone().requires_grad_()
    (0.25 * torch.nn.functional.cross_entropy(expected @ weight.T, targets.observed_N)).backward()
    torch.testing.assert_close(d_hidden, expected.grad)
    parts, d_hidden, d_weight = gradients(hidden, weight, nobody, LossWeights(tau=1.3, ce=0.0, format=0.0))
    assert parts.total.item() == 0
    assert not d_hidden.any()
    assert not d_weight.any()


def test_an_empty_batch_is_zero_with_a_graph() -> None:
    hidden, weight, targets = problem(1, n=0)
    parts, d_hidden, d_weight = gradients(hidden, weight, targets, LossWeights())
    assert parts.total.item() == 0
    assert d_hidden.shape == (0, D)
    assert not d_weight.any()


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_tiny_tails_stay_finite_in_fp32(offset: float) -> None:
    """The student is sure of a candidate by 120 nats: e^-120 underflows in fp32, its logarithm doesn't."""
    z = torch.zeros(1, V)
    z[0, 4] = 120.0
    targets = Targets(
        observed_N=torch.tensor([7]),
        topk_ids_NK=torch.tensor([[4]]),
        topk_logprobs_NK=torch.tensor([[-0.1]]),
        other_logprob_N=torch.log(-torch.expm1(torch.tensor([-0.1]))),
        kd_valid_N=torch.tensor([True]),
        is_struct_N=torch.tensor([False]),
    )
    weights = LossWeights(tau=1.0, ce=0.25, format=0.0)
    parts, d_hidden, _ = gradients(z + offset, torch.eye(V), targets, weights)
    slow = (z + offset).double().requires_grad_()
    total, *_ = reference_loss(
        slow, torch.eye(V).double(), targets, LossWeights(tau=1.0, ce=0.25, format=0.0), Counts(1, 1, 0)
    )
    total.backward()
    assert parts.total.item() == pytest.approx(total.item(), rel=1e-4)
    torch.testing.assert_close(d_hidden, slow.grad.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_fp32_sums_and_close_gradients(dtype: torch.dtype) -> None:
    hidden, weight, targets = problem(8, n=64, sharpness=1.0)
    _, exact_hidden, exact_weight = gradients(hidden, weight, targets, LossWeights())
    hidden, weight = hidden.float(), weight.float()
    with torch.autocast("cpu", dtype):
        parts, d_hidden, d_weight = gradients(hidden, weight, targets, LossWeights(), 16)
    assert parts.total.dtype == d_weight.dtype == d_hidden.dtype == torch.float32
    for got, exact in ((d_hidden, exact_hidden), (d_weight, exact_weight)):
        assert (got.double() - exact).norm() < 0.02 * exact.norm()


def test_evaluation_makes_no_gradient() -> None:
    hidden, weight, targets = problem(4)
    with torch.no_grad():
        parts = distill_loss(hidden, weight.requires_grad_(), targets, LossWeights(), counts_of(targets))
    assert not parts.total.requires_grad


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="tau"):
        LossWeights(tau=0)
    hidden, weight, targets = problem(4)
    with pytest.raises(ValueError, match="other mass"):
        distill_loss(hidden, weight[:5], targets, LossWeights(), counts_of(targets))
