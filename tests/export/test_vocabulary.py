"""llama.cpp cuts texts as the student's tokenizer does, or the tokenizer is refused."""

from pathlib import Path

import pytest
from tokenizers import Regex, pre_tokenizers

from bitnet_core.errors import BitnetError
from bitnet_core.export import gguf
from bitnet_core.export.running import Task, run_gguf
from bitnet_core.export.vocabulary import vocabulary_keys
from bitnet_core.model.packing import pack_student
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.export.conftest import TEXT, random_student
from tests.tokenizer.vocabularies import UNIGRAM, mistral, sentencepiece_model
from tests.traces.samples import small_tokenizer

__all__ = ["mistral", "sentencepiece_model"]
TEXTS = [
    TEXT,
    "  two spaces, then\ttab\r\nand <|im_end|>?",
    "I'll don't 1234567 x=y+42;\n\n\n```json\n{}\n```",
    "é東🌧",
]


def cut(tokenizer: StudentTokenizer, path: Path) -> list[list[int]]:
    gguf.write(pack_student(random_student(tokenizer.vocab_size)), tokenizer, path)
    return run_gguf(path, Task(tokenizer.vocab_size, 5, texts=TEXTS)).token_ids


@pytest.mark.teacher
def test_the_embedded_teachers(teacher_tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    assert cut(teacher_tokenizer, tmp_path / "student.gguf") == [teacher_tokenizer.encode(text) for text in TEXTS]


def test_sentencepieces(mistral: StudentTokenizer, tmp_path: Path) -> None:
    assert cut(mistral, tmp_path / "student.gguf") == [mistral.encode(text) for text in TEXTS]


def test_a_model_or_pattern_that_it_does_not_have_is_refused() -> None:
    with pytest.raises(BitnetError, match=r"unigram.*Unigram model.*bitnet export hf"):
        vocabulary_keys(UNIGRAM)
    own = small_tokenizer()
    changed = type(own._tokenizer).from_str(own._tokenizer.to_str())
    changed.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("[a-z]+"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    other = StudentTokenizer(changed, special_tokens=own.special_tokens, template=own.template, name="other")
    with pytest.raises(BitnetError, match="a pattern of its own"):
        vocabulary_keys(other)
