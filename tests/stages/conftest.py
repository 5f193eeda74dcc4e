"""The trainer's sequences, and one thread: the stages run on the same tiny models; and the teacher's tokenizer."""

import pytest

from bitnet_core.tokenizer.student import StudentTokenizer
from tests.training.conftest import _one_thread, sequences

__all__ = ["_one_thread", "sequences"]


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    """The embedded teacher's, which the student has in these tests."""
    return teacher_tokenizer
