"""One optimizer step: accumulation, weight decay, precision, and gradients that are not finite."""

import functools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.precision import Precision
from bitnet_core.model.student import Student
from bitnet_core.settings.resolve import from_values
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.dataset import TraceSequence
from bitnet_core.traces.examples import Batch, Counts, Example, Examples, collate, collate_rows
from bitnet_core.training.step import Stepper
from tests.training.losses_reference import reference_loss

CPU = torch.device("cpu")


SHAPE = StudentConfig(512, 256, 256, 1, 4, 4, 64)


def stepper(dtype: torch.dtype = torch.float32, shape: StudentConfig = SHAPE, **values: str) -> Stepper:
    torch.manual_seed(3)
    student = Student(shape)
    options = TrainOptions.of(from_values({"GRAD_CLIP_NORM": "1000000", **values}))
    return Stepper(student, options, CPU, Precision(dtype, "test"))


@pytest.fixture
def examples(sequences: list[TraceSequence]) -> list[Example]:
    return list(Examples(sequences, 48))


def cut(examples: Sequence[Example], sizes: Sequence[int]) -> list[Batch]:
    found, start = [], 0
    for size in sizes:
        found.append(collate(examples[start : start + size]))
        start += size
    return found


@pytest.mark.parametrize("sizes", [[1] * 12, [3, 9], [7, 1, 4]])
def test_accumulation_equals_one_large_batch(examples: list[Example], sizes: list[int]) -> None:
    """Sequences differ in length, so a mean of means would not be the mean."""
    whole, split = stepper(), stepper()
    for one in (whole, split):
        one.optimizer.param_groups[0]["betas"] = one.optimizer.param_groups[1]["betas"] = (0.0, 0.0)
    a = whole.step(cut(examples, [12]), 0.0)
    b = split.step(cut(examples, sizes), 0.0)
    torch.testing.assert_close(a.parts_5, b.parts_5, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(a.grad_norm, b.grad_norm, rtol=1e-4, atol=1e-6)
    assert (a.tokens, a.counts) == (b.tokens, b.counts)
    assert a.counts == cut(examples, [12])[0].counts
    for p, q in zip(whole.student.parameters(), split.student.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-5)


def test_only_ternary_masters_decay(examples: list[Example]) -> None:
    one = stepper(WEIGHT_DECAY="0.5")
    names = {id(parameter): name for name, parameter in one.student.named_parameters()}
    decayed = {names[id(p)] for group in one.optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {name for name in names.values() if name.endswith("_proj.weight")}
    assert sum(len(group["params"]) for group in one.optimizer.param_groups) == len(names)


@pytest.mark.parametrize("sizes", [[12], [3, 9]])
def test_the_share_of_structure_is_that_of_the_squared_gradient_at_its_states(
    examples: list[Example], sizes: list[int]
) -> None:
    one, batches = stepper(), cut(examples, sizes)
    squares, of_structure = 0.0, 0.0
    for batch in batches:
        states_BTD = one.student(batch.ids_BT, segments_BT=batch.segments_BT)
        states_ND = states_BTD.flatten(0, 1)[batch.positions_N].detach().requires_grad_()
        counts = sum((each.counts for each in batches), Counts(0, 0, 0))
        total, *_ = reference_loss(
            states_ND, one.student.output_weight.detach(), batch.targets, one.options.loss, counts
        )
        (d_states_ND,) = torch.autograd.grad(total, states_ND)
        squares += float(d_states_ND.square().sum())
        of_structure += float(d_states_ND[batch.targets.is_struct_N].square().sum())
    assert 0 < of_structure < squares
    share = one.step(batches, 0.0).format_share
    assert share is not None
    assert float(share) == pytest.approx(of_structure / squares, rel=1e-4)


def test_an_embedding_that_is_kept_has_neither_gradient_nor_moments_and_the_rest_steps_as_ever(
    examples: list[Example],
) -> None:
    one, other = stepper(), stepper(shape=replace(SHAPE, embedding_type="Q5_0"))
    before = other.student.output_weight.clone()
    for each in (one, other):
        each.step(cut(examples, [3, 2]), 1e-2)
    kept = other.student.output_weight
    assert kept.grad is None and kept not in other.optimizer.state and torch.equal(kept, before)
    for (name, trained), same in zip(one.student.named_parameters(), other.student.parameters(), strict=True):
        assert torch.equal(trained, same) == ("embed" not in name)
    other.restore(**other.state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("values", [{}, {"STUDENT_QUANTIZE": "0"}])
def test_layers_that_are_computed_again_have_the_same_gradients(
    examples: list[Example], dtype: torch.dtype, values: dict[str, str]
) -> None:
    """To the last bit, with weights held over two batches and without, at 8 bits, at 4, and while ramping."""
    shape = StudentConfig(512, 256, 256, 3, 4, 2, 64, a4_policy="hybrid", hadamard=True)
    kept, again = (stepper(dtype, shape=shape, RECOMPUTE_ACTIVATIONS=on, **values) for on in ("0", "1"))
    calls = []
    again.student.model.layers[0].register_forward_pre_hook(lambda *_: calls.append(None))
    for one in (kept, again):
        for bits, share, sizes in ((8, 1.0, [4]), (4, 1.0, [2, 3]), (8, 0.25, [4])):
            one.student.activation_bits = None if values else bits
            one.student.quantized_share = share
            one.step([collate_rows([examples[:2], examples[2:size]]) for size in sizes], 1e-3)
    assert len(calls) == 8
    for (name, mine), theirs in zip(kept.student.named_parameters(), again.student.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert torch.equal(mine.grad, theirs.grad) and torch.equal(mine, theirs), name


def test_masters_and_moments_stay_fp32_under_autocast(examples: list[Example]) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        one = stepper(dtype)
        result = one.step(cut(examples, [6]), 1e-3)
        exact = stepper().step(cut(examples, [6]), 1e-3)
        torch.testing.assert_close(result.parts_5[:4], exact.parts_5[:4], rtol=0.02, atol=1e-3)
        assert all(p.dtype == torch.float32 for p in one.student.parameters())
        moments = [value for state in one.optimizer.state.values() for value in state.values()]
        assert all(value.dtype == torch.float32 for value in moments)


def poison(one: Stepper, value: float) -> torch.utils.hooks.RemovableHandle:
    return one.student.model.norm.weight.register_hook(lambda grad: torch.full_like(grad, value))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_changes_nothing(examples: list[Example], value: float) -> None:
    one = stepper()
    one.step(cut(examples, [4]), 1e-3)
    before = [p.detach().clone() for p in one.student.parameters()]
    moments = [s["exp_avg"].clone() for s in one.optimizer.state.values()]
    handle = poison(one, value)
    assert not one.step(cut(examples, [4]), 1e-3).finite
    assert all(torch.equal(p, b) for p, b in zip(one.student.parameters(), before, strict=True))
    assert all(torch.equal(s["exp_avg"], m) for s, m in zip(one.optimizer.state.values(), moments, strict=True))
    handle.remove()
    assert one.step(cut(examples, [4]), 1e-3).finite
    assert not all(torch.equal(p, b) for p, b in zip(one.student.parameters(), before, strict=True))


def test_the_fp16_scale_halves_at_an_overflow_and_the_step_is_skipped(examples: list[Example]) -> None:
    one = stepper(torch.float16)
    scale = one.scaler.get_scale()
    assert scale > 1
    assert one.step(cut(examples, [4]), 1e-3).finite
    before = [p.detach().clone() for p in one.student.parameters()]
    handle = poison(one, float("inf"))
    assert not one.step(cut(examples, [4]), 1e-3).finite
    assert one.scaler.get_scale() == scale / 2
    assert all(torch.equal(p, b) for p, b in zip(one.student.parameters(), before, strict=True))
    handle.remove()
    assert one.step(cut(examples, [4]), 1e-3).finite


def test_the_prompt_carries_no_loss(examples: list[Example]) -> None:
    """Gradients reach the prompt only through attention: its own positions have no target."""
    one = stepper()
    batch = cut(examples, [1])[0]
    hidden_BTD = one.student(batch.ids_BT)
    hidden_BTD.retain_grad()
    rows = hidden_BTD.flatten(0, 1).index_select(0, batch.positions_N)
    rows.square().sum().backward()
    first = examples[0].prompt - 1
    assert hidden_BTD.grad is not None
    assert not hidden_BTD.grad[0, :first].any()
    assert hidden_BTD.grad[0, first:].abs().amax(-1).min() > 0


def test_a_compiled_student_trains_alike_on_batches_of_one_shape(
    examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without quantisers the two agree up to rounding; with them a value on a boundary may fall on either level.

    Traced and differentiated as for the C++ compiler, which itself would take half a minute.
    """
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    weights: list[dict[str, torch.Tensor]] = []
    for compiled in ("0", "1"):
        one = stepper(TORCH_COMPILE=compiled)
        one.student.activation_bits = None
        for first in (0, 4):
            shape = (4, 48) if compiled == "1" else None
            rows = [[example] for example in examples[first : first + 4]]
            one.step([collate_rows(rows, shape)], 1e-3)
        weights.append(one.student.state_dict())
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=2e-4), name
