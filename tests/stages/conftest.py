"""One thread, as the stages run on tiny models; sequences, the teacher's tokenizer and a trained student."""

import pytest

from bitnet_core.tokenizer.student import StudentTokenizer
from tests.stages.evaluated import no_child, root, trained
from tests.training.conftest import _one_thread, sequences

__all__ = ["_one_thread", "no_child", "root", "sequences", "trained"]


@pytest.fixture
def tokenizer(teacher_tokenizer: StudentTokenizer) -> StudentTokenizer:
    """The embedded teacher's, which the student has in these tests."""
    return teacher_tokenizer
