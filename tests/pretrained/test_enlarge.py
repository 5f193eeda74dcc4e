"""A larger residual stream changes no function: not a bit of it where epsilon has no say."""

import math
from dataclasses import replace

import pytest
import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.student import Student
from bitnet_core.pretrained.enlarge import enlarge

CONFIG = StudentConfig(
    vocab_size=50,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=64,
)


@pytest.mark.parametrize("size", [0.003, 0.14, 1.1, 9.0])
@pytest.mark.parametrize("bits", [None, 8, 4])
def test_the_student_computes_the_same_with_an_embedding_of_about_1(size: float, bits: int | None) -> None:
    torch.manual_seed(4)
    student = Student(replace(CONFIG, rms_norm_eps=1e-30)).eval()
    student.activation_bits = bits
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            parameter.uniform_(0.2, 2) if name.endswith("norm.weight") else parameter.normal_(0, 0.1)
        student.output_weight.mul_(size / student.output_weight.square().mean().sqrt())
        ids = torch.randint(0, 50, (2, 12))
        before = student.logits(student(ids))
        factor = enlarge(student)
        after = student.logits(student(ids))
    assert torch.equal(before, after)
    assert math.log2(factor).is_integer()
    assert 0.7 <= float(student.output_weight.detach().square().mean().sqrt()) <= 1.42
