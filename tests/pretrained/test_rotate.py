"""A rotation of the residual stream changes no function, and leaves no channel that stands out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.pretrained.rotate import rotate, turned

OUTLIER = 7


def student_of(width: int, seed: int, *, hadamard: bool = False) -> Student:
    """In full precision, with norms of any weights but the last, and a channel that stands out."""
    torch.manual_seed(seed)
    config = StudentConfig(
        vocab_size=50,
        hidden_size=width,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 64,
        max_position_embeddings=64,
        hadamard=hadamard,
    )
    student = Student(config).eval()
    student.activation_bits = None
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith("layernorm.weight") or "sub_norm" in name:
                parameter.uniform_(0.2, 2)
        student.model.norm.weight.fill_(1.8)
        student.output_weight[:, OUTLIER] *= 60
    return student


@settings(max_examples=12, deadline=None)
@given(width=st.sampled_from([64, 192, 320]), seed=st.integers(0, 1000), hadamard=st.booleans())
def test_a_full_precision_student_computes_the_same(width: int, seed: int, *, hadamard: bool) -> None:
    student = student_of(width, seed, hadamard=hadamard)
    ids = torch.randint(0, 50, (2, 12))
    with torch.no_grad():
        before_BTD, logits = student(ids), student.logits(student(ids))
        rotate(student)
        after_BTD, again = student(ids), student.logits(student(ids))
    assert (again - logits).abs().max() <= 1e-4 * logits.abs().max()
    assert (turned(before_BTD) - after_BTD).abs().max() <= 1e-4 * before_BTD.abs().max()


def test_no_channel_stands_out() -> None:
    student = student_of(192, 3)
    ids = torch.randint(0, 50, (4, 12))

    def peak() -> float:
        """The largest channel over the root mean square, of what the first layer reads."""
        with torch.no_grad():
            x_ND = student.model.embed_tokens(ids).flatten(0, 1)
        return float((x_ND.abs().amax(dim=1) / x_ND.square().mean(dim=1).sqrt()).mean())

    before = peak()
    rotate(student)
    assert before > 10
    assert peak() < 4


def test_the_last_norm_is_in_the_head() -> None:
    """Its weights go with the embedding; the logits of a given state stay what they were."""
    student = student_of(64, 1)
    with torch.no_grad():
        student.model.norm.weight.uniform_(0.5, 3)
        state_ND = torch.randn(5, 64)
        wanted = student.logits(student.model.norm(state_ND))
        rotate(student)
        found = student.logits(student.model.norm(turned(state_ND)))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [64, 192, 576, 960, 768, 2560])
def test_the_rotation_is_orthonormal_and_mixes_all(size: int) -> None:
    matrix = turned(torch.eye(size, dtype=torch.float64))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64))
    assert matrix.abs().max() <= (2 / size) ** 0.5 + 1e-9
