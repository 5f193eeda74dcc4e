"""Rows that blocks don't divide: the smaller file of the two that llama.cpp can read, computing the same."""

from pathlib import Path

import gguf as reader
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.export import gguf
from bitnet_core.export.blocks import EMBEDDING_TYPES, LINEAR_TYPES
from bitnet_core.export.layout import layout_for, layout_named
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import pack_student
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.export.conftest import random_student
from tests.export.test_gguf import compared

_KINDS = st.tuples(st.sampled_from(sorted(LINEAR_TYPES)), st.sampled_from(sorted(EMBEDDING_TYPES)))


def plain_bytes(config: StudentConfig, linear: str, embedding: str, other: str, block: int) -> int:
    """A file with sizes rounded up to `block`, counted tensor by tensor with the `gguf` package's numbers."""

    def stored(rows: int, columns: int, kind: str) -> int:
        weights, size = reader.GGML_QUANT_SIZES[reader.GGMLQuantizationType[kind]] if kind != "Q2_0" else (64, 18)
        assert columns % weights == 0
        return rows * (columns // weights) * size

    def type_of(columns: int) -> str:
        fits = columns % {"TQ2_0": 256, "TQ1_0": 256, "Q2_0": 64, "Q4_0": 32, "F16": 1}[linear] == 0
        return linear if fits else other

    head = config.head_dim
    group = config.num_attention_heads // config.num_key_value_heads
    hidden = config.hidden_size
    while hidden % max(block, {"Q6_K": 256, "Q8_0": 32, "Q5_0": 32, "Q4_0": 32, "F16": 1}[embedding]) or hidden % (
        group * head
    ):
        hidden += head
    ffn = -(-config.intermediate_size // block) * block
    kv = hidden // group
    shapes = [(hidden, hidden), (kv, hidden), (kv, hidden), (hidden, hidden), (ffn, hidden), (ffn, hidden)]
    shapes.append((hidden, ffn))
    layer = sum(stored(rows, columns, type_of(columns)) for rows, columns in shapes) + 4 * (3 * hidden + ffn + 7)
    return config.num_hidden_layers * layer + stored(config.vocab_size, hidden, embedding) + 4 * hidden


@given(
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 12), st.integers(1, 6), st.sampled_from([9, 50_000]), _KINDS
)
def test_the_smaller_file_is_chosen(
    kv: int, group: int, ffn: int, layers: int, vocabulary: int, kinds: tuple[str, str]
) -> None:
    config = StudentConfig(vocabulary, kv * group * 64, 64 * ffn, layers, kv * group, kv, 32)
    linear, embedding = kinds
    found = layout_for(config, LINEAR_TYPES[linear], EMBEDDING_TYPES[embedding])
    widened = plain_bytes(config, linear, embedding, linear, LINEAR_TYPES[linear].weights)
    assert found.tensor_bytes() == min(widened, plain_bytes(config, linear, embedding, "Q4_0", 32))
    assert (found.shape.hidden_size, found.shape.intermediate_size) == (found.wide.hidden, found.wide.ffn)


@pytest.mark.parametrize("kind", ["TQ2_0", "TQ1_0"])
def test_a_student_that_zeros_would_make_much_wider_keeps_its_width(
    tokenizer: StudentTokenizer, ids: list[int], tmp_path: Path, kind: str
) -> None:
    """Whole groups of five heads would make it 1,280 wide: all but down, with rows of whole blocks, are in Q4_0."""
    student = pack_student(random_student(tokenizer.vocab_size, hidden=320, ffn=512, heads=5, kv_heads=1))
    path = tmp_path / "student.gguf"
    found = compared(student, tokenizer, path, ids, kind, "Q8_0")
    file = reader.GGUFReader(path)
    assert file.fields["bitnet.embedding_length"].contents() == 320
    types = {tensor.name: tensor.tensor_type.name for tensor in file.tensors if tensor.name.startswith("blk.1.")}
    others = {f"blk.1.{part}.weight" for part in gguf.LINEARS.values()} - {"blk.1.ffn_down.weight"}
    assert types["blk.1.ffn_down.weight"] == kind
    assert {types[name] for name in others} == {"Q4_0"}
    assert found.rounded_kl is not None and found.rounded_kl <= 2e-3
    assert found.mean_kl <= 2e-3
    assert found.decided_agreement is not None
    assert found.decided_agreement >= 0.98


def test_tensor_bytes_are_those_of_the_file(tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    student = random_student(tokenizer.vocab_size, hidden=320, ffn=512, heads=5, kv_heads=1)
    gguf.write(student, tokenizer, tmp_path / "student.gguf")
    stored = sum(tensor.n_bytes for tensor in reader.GGUFReader(tmp_path / "student.gguf").tensors)
    assert layout_named(student.config, "TQ2_0").tensor_bytes() == stored
