"""A small ternary student with a small real tokenizer, and texts to compare it on."""

import pytest
import torch

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import pack_student
from bitnet_core.model.student import Student
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.traces.samples import small_tokenizer
from tests.training.conftest import _one_thread

__all__ = ["_one_thread"]
TEXT = 'The rain in Spain stays mainly in the plain, naïve café 東京 🌧 {"name": "Alice", "age": 30} 12345\n\n then'


def random_student(
    vocab_size: int,
    *,
    hidden: int = 256,
    ffn: int = 512,
    heads: int = 4,
    kv_heads: int = 2,
    embedding_type: str = "",
) -> Student:
    """Two layers; norms differ, because ones would hide one in the wrong place, and logits are not all alike."""
    torch.manual_seed(0)
    shape = (vocab_size, hidden, ffn, 2, heads, kv_heads, 256)
    student = Student(StudentConfig(*shape, embedding_type=embedding_type)).eval()
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if name.endswith("norm.weight"):
                parameter.uniform_(0.5, 1.5)
        student.output_weight.mul_(3)
    return student


@pytest.fixture(scope="session")
def tokenizer() -> StudentTokenizer:
    return small_tokenizer()


@pytest.fixture
def student(tokenizer: StudentTokenizer) -> Student:
    return pack_student(random_student(tokenizer.vocab_size))


@pytest.fixture(scope="session")
def ids(tokenizer: StudentTokenizer) -> list[int]:
    return tokenizer.encode(TEXT)
