"""The attention-relation loss: against a slow twin, over texts and padding, split into batches, and in a training."""

import functools
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.precision import Precision
from bitnet_core.model.student import Student
from bitnet_core.pretrained.start import as_source
from bitnet_core.settings.resolve import resolve
from bitnet_core.settings.values import TrainOptions
from bitnet_core.traces.examples import Batch, Example, collate_rows
from bitnet_core.training.relations import Relations, real_positions, relation_loss
from bitnet_core.training.step import Stepper
from tests.training.conftest import TINY, VOCAB, make_sequence

CONFIG = StudentConfig(
    vocab_size=VOCAB,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
)


def slow_relation_loss(own_BHTC: Tensor, wanted_BHTC: Tensor, texts_BT: Tensor, positions: int) -> Tensor:
    """Position by position: each against those before it in its own text."""
    rows, heads, tokens, size = own_BHTC.shape
    loss = own_BHTC.new_zeros(())
    for row in range(rows):
        for place in (place for place in range(tokens) if texts_BT[row, place] >= 0):
            others = [one for one in range(place + 1) if texts_BT[row, one] == texts_BT[row, place]]
            for head in range(heads):
                own, wanted = (
                    torch.log_softmax(x[row, head, others] @ x[row, head, place] / size**0.5, dim=0)
                    for x in (own_BHTC, wanted_BHTC)
                )
                loss = loss + (wanted.exp() * (wanted - own)).sum() / heads
    return loss / positions


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=3),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 1 << 16),
)
def test_loss_and_gradient_are_those_of_the_slow_twin(
    rows: list[list[int]], heads: int, size: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    tokens = max(map(sum, rows)) + 1
    texts_BT = torch.full((len(rows), tokens), -1)
    for row, lengths in enumerate(rows):
        numbers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
        texts_BT[row, : len(numbers)] = numbers
    shape = (len(rows), heads, tokens, size)
    own, wanted = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    positions = int((texts_BT >= 0).sum())
    ours, theirs = (own.clone().requires_grad_() for _ in range(2))
    loss = relation_loss(ours, wanted, texts_BT, positions)
    slow = slow_relation_loss(theirs, wanted, texts_BT, positions)
    (3 * loss).backward()  # type: ignore[no-untyped-call]
    (3 * slow).backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, slow)
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert relation_loss(wanted, wanted, texts_BT, positions).item() == pytest.approx(0, abs=1e-12)


def examples(count: int = 4) -> list[Example]:
    return [Example(make_sequence(n, prompt=2 + n, completion=5 + n), 2 + n, 5 + n) for n in range(count)]


def stepper(weight: float, *, narrow: torch.dtype = torch.float32, **values: str) -> Stepper:
    """A student, and a source with other weights of the same shape."""
    torch.manual_seed(1)
    source = as_source(Student(CONFIG))
    with torch.no_grad():
        for linear in source.bit_linears():
            linear.weight.mul_(10)  # relations of fresh weights are all alike
    student = Student(CONFIG)
    options = TrainOptions.of(resolve(TINY | values).settings)
    device = torch.device("cpu")
    return Stepper(student, options, device, Precision(narrow, "test"), relations=Relations(source, weight))


def relation_of(one: Stepper, batches: Sequence[Batch], rate: float = 0.0) -> float:
    result = one.step(batches, rate)
    assert result.finite and result.relation is not None
    return float(result.relation)


def test_packing_padding_and_splitting_do_not_change_the_loss() -> None:
    apart = [collate_rows([[one]]) for one in examples()]
    together = collate_rows([[one] for one in examples()])
    packed = collate_rows([examples()[:2], examples()[2:]])
    padded = collate_rows([[one] for one in examples()], (6, 40))
    assert len({sum(map(real_positions, batches)) for batches in (apart, [together], [packed], [padded])}) == 1
    found = [relation_of(stepper(1.0), batches) for batches in (apart, [together], [packed], [padded])]
    assert found == pytest.approx([found[0]] * 4, rel=1e-3)
    assert found[0] > 0.01


def test_a_source_of_the_student_s_own_weights_has_nothing_to_teach() -> None:
    torch.manual_seed(1)
    student = Student(CONFIG)
    student.activation_bits = None
    source = Student(CONFIG)
    source.load_state_dict(student.state_dict())
    source.activation_bits = None
    options = TrainOptions.of(resolve(TINY).settings)
    one = Stepper(
        student, options, torch.device("cpu"), Precision(torch.float32, "test"), None, Relations(source, 1.0)
    )
    assert relation_of(one, [collate_rows([examples()])]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16])
def test_it_is_learnt_and_is_no_part_of_the_reported_loss(narrow: torch.dtype) -> None:
    batch = [collate_rows([examples()])]
    with_it, without = stepper(5.0, narrow=narrow), stepper(0.0, narrow=narrow)
    first = with_it.step(batch, 1e-3)
    torch.testing.assert_close(first.parts_5, without.step(batch, 1e-3).parts_5)
    for _ in range(20):
        learnt, other = relation_of(with_it, batch, 1e-3), relation_of(without, batch, 1e-3)
    assert first.relation is not None
    assert learnt < 0.8 * float(first.relation)
    assert learnt < other


def test_no_relation_that_is_not_finite_changes_a_weight() -> None:
    one = stepper(float("nan"))
    before = [parameter.detach().clone() for parameter in one.student.parameters()]
    assert not one.step([collate_rows([examples()])], 1e-3).finite
    assert all(map(torch.equal, one.student.parameters(), before))


def test_a_compiled_student_is_watched_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and differentiated as for the C++ compiler, which itself would take half a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    found: list[list[float]] = []
    for compiled in ("0", "1"):
        one = stepper(2.0, TORCH_COMPILE=compiled, RECOMPUTE_ACTIVATIONS=compiled)
        one.student.activation_bits = None
        batches = [
            collate_rows([[example] for example in examples()[first : first + 2]], (2, 24)) for first in (0, 2)
        ]
        found.append([relation_of(one, [batch], 1e-3) for batch in batches])
    assert found[1] == pytest.approx(found[0], rel=1e-3)
