"""A GGUF is read by the `gguf` package and computes in llama.cpp what the student computes here."""

from pathlib import Path

import gguf as reader
import numpy as np
import pytest
import torch

from bitnet_core.cli import export as command
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.export import gguf, gguf_read
from bitnet_core.export.blocks import held
from bitnet_core.export.compare import Comparison, compare
from bitnet_core.export.reference import logprobs, logprobs_as_llamacpp
from bitnet_core.export.running import Task, run_gguf
from bitnet_core.model.config import KEPT_EMBEDDINGS
from bitnet_core.model.packing import pack_student
from bitnet_core.model.quant import ternarize
from bitnet_core.model.student import Student
from bitnet_core.pretrained.start import round_embedding
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.export.conftest import TEXT, random_student


def compared(
    student: Student, tokenizer: StudentTokenizer, path: Path, ids: list[int], kind: str, embedding: str = "F16"
) -> Comparison:
    """What llama.cpp computes, against ours: without rounded inputs for F16, at 8 bits for the ternary types."""
    gguf.write(student, tokenizer, path, kind, embedding=embedding)
    plain = tokenizer.encode("a")[0]
    run = run_gguf(path, Task(tokenizer.vocab_size, plain, sequences=[(ids, 3)], texts=[TEXT]))
    assert run.token_ids == [tokenizer.encode(TEXT)]
    student.activation_bits = None if kind == "F16" else 8
    ours = logprobs(student, ids, 3).numpy()
    about = gguf_read.look(path)
    assert about.embedding_type == embedding
    rounded = logprobs_as_llamacpp(student, ids, 3, about.linear_types, embedding).numpy()
    return compare(ours, run.values[0], rounded)


def test_f16_computes_the_ternary_student(
    student: Student, tokenizer: StudentTokenizer, ids: list[int], tmp_path: Path
) -> None:
    student.output_weight.mul_(0.5)  # inputs rounded to fp16 cost a share of the logits' size
    found = compared(student, tokenizer, tmp_path / "student.gguf", ids, "F16")
    assert found.max_difference <= 5e-3
    assert found.agreement == 1


@pytest.mark.parametrize("kind", ["TQ2_0", "TQ1_0", "Q2_0", "Q4_0"])
@pytest.mark.parametrize("embedding", ["Q8_0", "Q6_K", "Q5_0", "Q4_0"])
def test_ternary_types_compute_the_student_at_8_bits(
    student: Student, tokenizer: StudentTokenizer, ids: list[int], tmp_path: Path, kind: str, embedding: str
) -> None:
    if embedding in KEPT_EMBEDDINGS:  # they are for embeddings that they hold exactly
        student.output_weight.copy_(torch.from_numpy(held(embedding, student.output_weight.numpy())))
    found = compared(student, tokenizer, tmp_path / "student.gguf", ids, kind, embedding)
    assert found.mean_kl <= 2e-3
    assert found.rounded_kl is not None and found.rounded_kl <= 2e-3
    assert found.decided_steps >= len(ids) // 4
    assert found.decided_agreement is not None
    assert found.decided_agreement >= 0.98


def test_tensors_are_the_students(tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    student = random_student(tokenizer.vocab_size)
    path = tmp_path / "student.gguf"
    gguf.write(student, tokenizer, path, "TQ2_0", origin={"step": 7})
    file = reader.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in file.tensors}
    layer = student.model.layers[1]
    codes, scale = ternarize(layer.mlp.up_proj.weight.detach())
    read = reader.quants.dequantize(tensors["blk.1.ffn_up.weight"].data, reader.GGMLQuantizationType.TQ2_0)
    assert np.array_equal(read, codes.numpy())
    assert tensors["blk.1.ffn_up.scale"].data.tolist() == [pytest.approx(float(scale), rel=1e-7)]
    assert np.array_equal(tensors["blk.1.ffn_sub_norm.weight"].data, layer.mlp.ffn_sub_norm.weight.detach().numpy())
    assert file.fields["bitnet_core.step"].contents() == 7
    assert file.fields["bitnet.attention.head_count_kv"].contents() == 2
    assert file.fields["tokenizer.ggml.tokens"].contents()[tokenizer.eos_id] == "<|im_end|>"
    assert file.fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_id
    assert file.fields["tokenizer.chat_template"].contents() == tokenizer.template


@pytest.mark.parametrize(
    ("kind", "kept", "type_of_embedding"),
    [("TQ2_0", "Q5_0", "Q5_0"), ("TQ2_0", "Q4_0", "Q4_0"), ("F16", "Q5_0", "F16")],
)
def test_an_embedding_that_is_kept_in_a_type_is_stored_in_it_bit_for_bit(
    tokenizer: StudentTokenizer, tmp_path: Path, kind: str, kept: str, type_of_embedding: str
) -> None:
    student = random_student(tokenizer.vocab_size, embedding_type=kept)
    round_embedding(student)
    gguf.write(student, tokenizer, tmp_path / "student.gguf", kind)
    stored = reader.GGUFReader(tmp_path / "student.gguf").tensors[0]
    assert (stored.name, stored.tensor_type.name) == ("token_embd.weight", type_of_embedding)
    read = reader.quants.dequantize(stored.data, stored.tensor_type)
    assert np.array_equal(read, student.output_weight.numpy()) == (type_of_embedding == kept)
    assert np.allclose(read, student.output_weight.numpy(), rtol=1e-3, atol=1e-7)


def test_the_command_offers_every_type() -> None:
    """It has a list of its own, because its help loads no numpy."""
    assert (command.TYPES, command.EMBEDDINGS) == (gguf.TYPES, gguf.EMBEDDINGS)


@pytest.mark.parametrize(
    ("change", "named"),
    [({"hidden_act": "relu2"}, "squared ReLU"), ({"hadamard": True}, "Hadamard"), ({"vocab_size": 77}, "77")],
)
def test_what_llamacpp_cannot_compute_is_refused(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    for name, value in change.items():
        object.__setattr__(student.config, name, value)
    with pytest.raises(BitnetError, match=named):
        gguf.write(student, tokenizer, tmp_path / "student.gguf")
    assert not list(tmp_path.iterdir())


def test_unknown_types_are_named(student: Student, tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Q4_K.*TQ2_0"):
        gguf.write(student, tokenizer, tmp_path / "student.gguf", "Q4_K")
    with pytest.raises(UsageError, match=r"TQ2_0.*Q8_0"):
        gguf.write(student, tokenizer, tmp_path / "student.gguf", embedding="TQ2_0")


def test_a_full_disk_leaves_the_old_file(
    student: Student, tokenizer: StudentTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "student.gguf"
    gguf.write(student, tokenizer, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf, "_embedding_bytes", full)
    with pytest.raises(BitnetError, match=r"student\.gguf can't be written \(No space left.*free space there\.$"):
        gguf.write(student, tokenizer, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_file_is_named(student: Student, tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    path = tmp_path / "student.gguf"
    gguf.write(student, tokenizer, path)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BitnetError, match=r"student\.gguf.*export it again"):
        run_gguf(path, Task(tokenizer.vocab_size, 3, prompts=[[5, 6]], new_tokens=2))


def test_packed_and_master_weights_make_the_same_file(tokenizer: StudentTokenizer, tmp_path: Path) -> None:
    student = random_student(tokenizer.vocab_size)
    gguf.write(student, tokenizer, tmp_path / "a.gguf")
    gguf.write(pack_student(student), tokenizer, tmp_path / "b.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
