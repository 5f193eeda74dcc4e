"""Products in 8-bit whole numbers, against sums that are exact in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.model import integers
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.layers import BitLinear, project_together
from bitnet_core.model.packing import PackedBitLinear, pack_student
from bitnet_core.model.quant import levels, quantize_activation, ternarize
from bitnet_core.model.student import Student

here = pytest.mark.skipif(not integers._processor_multiplies(), reason="no such instructions on this processor")
SIZES = st.integers(2, 70)


@given(SIZES, SIZES, st.integers(1, 40), st.sampled_from([4, 8]), st.floats(-9, 3), st.integers(0, 2**32))
def test_the_codes_are_those_of_the_quantiser(
    rows: int, columns: int, tokens: int, bits: int, power: float, seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    x = torch.randn(tokens, columns, generator=draws) * 10**power
    found = integers.codes_of(x, bits)
    assert int(found.codes.abs().max()) <= levels(bits)
    assert torch.allclose(found.values(), quantize_activation(x, bits), rtol=1e-6, atol=0)
    if integers._processor_multiplies():
        weight = torch.randint(-64, 65, (rows, columns), generator=draws, dtype=torch.int8)
        exact = found.codes.double() @ weight.double().t()
        assert torch.equal(integers.product(found.codes, weight).double(), exact)


def test_nothing_but_zeros_is_a_code() -> None:
    found = integers.codes_of(torch.zeros(2, 5), 8)
    assert not found.codes.any() and bool((found.step > 0).all())


@here
@pytest.mark.parametrize("bits", [8, 4])
def test_linears_are_nearer_to_float64_than_in_float32(bits: int) -> None:
    torch.manual_seed(3)
    linear = BitLinear(512, 300)
    torch.nn.init.normal_(linear.weight)
    linear.activation_bits = bits
    packed = PackedBitLinear.from_linear(linear)
    codes, scale = ternarize(linear.weight.detach())
    x = torch.randn(3, 9, 512)
    x_q = quantize_activation(x, bits)
    exact = x_q.double() @ (codes.double() * scale.double()).t()

    def errors() -> list[float]:
        with torch.no_grad():
            linear.hold(True)
            both = [one(x) for one in (linear, packed)]
            linear.hold(False)
        assert both[0].shape == both[1].shape == (3, 9, 300)
        return [float((one - exact).norm() / exact.norm()) for one in both]

    ours = errors()
    with integers.left_out():
        others = errors()
    assert max(ours) < 2e-7
    assert max(ours) <= 1.5 * min(others)
    assert ours != others


@here
def test_held_codes_make_the_same_student_and_leave_gradients() -> None:
    torch.manual_seed(4)
    student = Student(StudentConfig(300, 256, 256, 2, 4, 4, max_position_embeddings=32)).eval()
    packed, ids = pack_student(student), torch.randint(300, (2, 20))

    def logits(model: Student) -> torch.Tensor:
        with torch.no_grad(), model.held_weights():
            return model.logits(model(ids))

    held, from_packed = logits(student), logits(packed)
    assert torch.allclose(held, from_packed, atol=1e-5)
    with integers.left_out():
        assert torch.allclose(held, logits(student), atol=1e-5)
    with torch.no_grad():
        student.model.layers[0].mlp.up_proj.hold(True)
    student(ids).sum().backward()
    assert student.model.layers[0].mlp.up_proj.weight.grad is not None


@here
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("tokens", [1, 20])
def test_linears_held_together_give_the_same_bits_as_each_alone(bits: int, tokens: int) -> None:
    torch.manual_seed(5)
    student = Student(StudentConfig(300, 256, 512, 2, 4, 2, max_position_embeddings=32)).eval()
    student.activation_bits = bits
    ids = torch.randint(300, (2, tokens))
    with torch.no_grad():
        for linear in student.bit_linears():
            linear.hold(True)
        alone = student(ids)
        with student.held_weights():
            attention = student.model.layers[0].self_attn
            assert attention.q_proj._joint is not None
            x = torch.randn(2, tokens, 256)
            x_q = attention.q_proj.quantize_input(x)
            linears = (attention.q_proj, attention.k_proj, attention.v_proj)
            for one, linear in zip(project_together(linears, x_q), linears, strict=True):
                assert torch.equal(one, linear(x))
            assert torch.equal(student(ids), alone)
        assert attention.q_proj._joint is None
        # Codes are of use to a linear that isn't held, too.
        attention.q_proj.hold(True)
        codes = attention.q_proj.quantize_input(x)
        assert torch.allclose(attention.k_proj.project(codes), attention.k_proj(x), atol=1e-5)


@here
def test_an_input_is_quantised_once_for_the_linears_that_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    student = Student(StudentConfig(300, 256, 256, 2, 4, 4, max_position_embeddings=32)).eval()
    packed, counted = pack_student(student), []
    codes_of, product = integers.codes_of, integers.product
    monkeypatch.setattr(integers, "codes_of", lambda x, bits: counted.append("codes") or codes_of(x, bits))
    monkeypatch.setattr(integers, "product", lambda x, weight: counted.append("product") or product(x, weight))
    with torch.no_grad():
        with student.held_weights():
            student(torch.tensor([[1, 2]]))
        assert (counted.count("codes"), counted.count("product")) == (2 * 4, 2 * 4)
        packed(torch.tensor([[1, 2]]))
    assert (counted.count("codes"), counted.count("product")) == (4 * 4, 2 * 4 + 2 * 7)
