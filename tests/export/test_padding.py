"""Rows that blocks don't divide: the padded file holds another shape and the same function."""

from pathlib import Path

import gguf as reader
import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.export import gguf
from bitnet_core.export.padding import padding_for
from bitnet_core.export.reference import logits
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import pack, pack_student
from bitnet_core.model.student import Student
from bitnet_core.tokenizer.student import StudentTokenizer
from tests.export.conftest import random_student
from tests.export.test_gguf import compared

_NAMES = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_NAMES |= {"attn_sub_norm": "self_attn.attn_sub_norm", "ffn_sub_norm": "mlp.ffn_sub_norm"}
_LINEARS = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj"}
_LINEARS |= {"attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj"}
_LINEARS |= {"ffn_down": "mlp.down_proj"}


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(1, 9))
def test_sizes_are_the_least_that_keep_heads_whole(kv: int, group: int, heads_of_64: int, ffn: int) -> None:
    head = 64 * heads_of_64
    config = StudentConfig(9, kv * group * head, 64 * ffn, 1, kv * group, kv, 32)
    wide = padding_for(config, 256, 256)
    assert wide.hidden % 256 == 0 == wide.ffn % 256
    assert wide.hidden == wide.heads * head
    assert wide.heads == wide.kv_heads * group
    fitting = [n for n in range(kv, 64) if n * group * head % 256 == 0]
    assert wide.kv_heads == fitting[0]
    assert wide.ffn - config.intermediate_size < 256
    same = padding_for(config, 1, 1)
    assert (same.hidden, same.ffn, same.epsilon) == (
        config.hidden_size,
        config.intermediate_size,
        config.rms_norm_eps,
    )
    assert (same.hidden_factor, same.ffn_factor, same.up_factor) == (1, 1, 1)


def narrow(tokenizer: StudentTokenizer) -> Student:
    """Its feed-forward size needs another share of padding than its hidden size, and its epsilon counts."""
    student = random_student(tokenizer.vocab_size, hidden=448, ffn=320, heads=14, kv_heads=7)
    object.__setattr__(student.config, "rms_norm_eps", 0.05)
    for module in student.modules():
        if hasattr(module, "eps"):
            module.eps = 0.05
    return student


def read_back(path: Path, config: StudentConfig) -> Student:
    """The student that the file describes, wider, built from its tensors."""
    file = reader.GGUFReader(path)
    fields = {name: file.fields[f"bitnet.{name}"].contents() for name in ("embedding_length", "feed_forward_length")}
    heads = [file.fields[f"bitnet.attention.head_count{kv}"].contents() for kv in ("", "_kv")]
    epsilon = file.fields["bitnet.attention.layer_norm_rms_epsilon"].contents()
    shape = (config.vocab_size, fields["embedding_length"], fields["feed_forward_length"], 2, *heads, 256)
    found = pack_student(Student(StudentConfig(*shape, rms_norm_eps=epsilon)))
    state = found.state_dict()
    for tensor in file.tensors:
        part = tensor.name.removesuffix(".weight").removesuffix(".scale").split(".")
        values = torch.from_numpy(reader.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
        if part[0] != "blk":
            own = {"token_embd": "model.embed_tokens.weight", "output_norm": "model.norm.weight"}[part[0]]
        elif part[2] in _NAMES:
            own = f"model.layers.{part[1]}.{_NAMES[part[2]]}.weight"
        elif tensor.name.endswith(".scale"):
            own, values = f"model.layers.{part[1]}.{_LINEARS[part[2]]}.scale", values.reshape(())
        else:
            own, values = f"model.layers.{part[1]}.{_LINEARS[part[2]]}.packed", pack(values)
        state[own].copy_(values)
    return found


def test_the_padded_file_holds_the_same_function(tokenizer: StudentTokenizer, ids: list[int], tmp_path: Path) -> None:
    student = pack_student(narrow(tokenizer))
    gguf.write(student, tokenizer, tmp_path / "student.gguf", "TQ2_0", embedding="F16")
    wide = read_back(tmp_path / "student.gguf", student.config)
    assert (wide.config.hidden_size, wide.config.intermediate_size) == (512, 512)
    student.output_weight.copy_(student.output_weight.half().float())
    student.activation_bits = wide.activation_bits = None
    assert (logits(wide, ids) - logits(student, ids)).abs().max() <= 2e-5


def test_llamacpp_computes_the_padded_student(tokenizer: StudentTokenizer, ids: list[int], tmp_path: Path) -> None:
    found = compared(pack_student(narrow(tokenizer)), tokenizer, tmp_path / "student.gguf", ids, "TQ2_0", "Q8_0")
    assert found.mean_kl <= 2e-3
    assert found.decided_agreement is not None
    assert found.decided_agreement >= 0.98
