"""A student as a GGUF of architecture `bitnet`, for llama.cpp.

llama.cpp knows this architecture with SiLU and with the embedding as head; a file with a head of its own does not
load. Its rotary embedding is in halves, as ours, so q and k stay as they are. Each linear has its codes -1, 0 and 1,
and its scale as a tensor of one number beside it.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.export.blocks import EMBEDDING_TYPES, F32, LINEAR_TYPES, BlockType, Bytes
from bitnet_core.export.exportable import own_facts, require_exportable
from bitnet_core.export.gguf_file import TensorPlan, write_gguf
from bitnet_core.export.layout import Layout, layout_named
from bitnet_core.export.padding import padded
from bitnet_core.export.vocabulary import vocabulary_keys
from bitnet_core.model.layers import BitLinear, Layer
from bitnet_core.model.packing import PackedBitLinear, unpack
from bitnet_core.model.quant import ternarize
from bitnet_core.model.student import Student
from bitnet_core.runs import exports
from bitnet_core.tokenizer.student import StudentTokenizer

TYPES = tuple(LINEAR_TYPES)
EMBEDDINGS = tuple(EMBEDDING_TYPES)
ORIGIN = f"{exports.MARK}."
"""Before the names of what is kept of the checkpoint; only this program reads it."""
LINEARS = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
SEAL = f"{ORIGIN}file_sha256"
_QUANTIZATION_VERSION = 2


def write(
    student: Student,
    tokenizer: StudentTokenizer,
    path: Path,
    type_name: str = "TQ2_0",
    *,
    embedding: str = "",
    name: str = "student",
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write a student, packed or not, as a GGUF file, whole or not at all.

    `type_name` is that of the linears (TYPES); `embedding` is one of EMBEDDINGS, by default that of `layout_named`.
    `layout` says what becomes of rows that the blocks don't divide. `origin` has what is kept of
    the checkpoint, such as its step: numbers and texts. BitnetError for what llama.cpp can't compute, and for a
    tokenizer that it can't be.
    """
    layout = layout_named(student.config, type_name, embedding)
    require_computable(student, tokenizer)
    write_as(layout, student, tokenizer, path, name=name, origin=origin)


def write_as(
    layout: Layout,
    student: Student,
    tokenizer: StudentTokenizer,
    path: Path,
    *,
    name: str = "student",
    origin: Mapping[str, Any] | None = None,
) -> None:
    """As `write`, for a student that llama.cpp can compute, in a layout for its shape."""
    # Before the vocabulary, which is long: who lists exports reads only the beginning.
    keys = _keys(layout, name) | {ORIGIN + key: value for key, value in own_facts(student, origin).items()}
    write_gguf(path, keys | vocabulary_keys(tokenizer), _tensors(student, layout), seal=SEAL)


def require_computable(student: Student, tokenizer: StudentTokenizer) -> None:
    """BitnetError if llama.cpp would compute another function than the student's."""
    if student.config.hidden_act != "silu":
        raise BitnetError(
            f"llama.cpp computes SiLU for this architecture and the student has {student.config.hidden_act} (squared "
            "ReLU); use `bitnet export hf`, or train another one with STUDENT_PROFILE=portable."
        )
    require_exportable(student, tokenizer, "llama.cpp")


def _keys(layout: Layout, name: str) -> dict[str, Any]:
    config = layout.shape
    shape = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": layout.wide.epsilon,
        "rope.freq_base": float(config.rope_theta),
        "rope.dimension_count": config.head_dim,
        "vocab_size": config.vocab_size,
    }
    general = {
        "general.architecture": "bitnet",
        "general.type": "model",
        "general.name": name,
        "general.file_type": layout.linear.file_type,
        "general.quantization_version": _QUANTIZATION_VERSION,
    }
    return general | {f"bitnet.{key}": value for key, value in shape.items()}


def _tensors(student: Student, layout: Layout) -> list[TensorPlan]:
    wide = layout.wide
    table = (layout.shape.vocab_size, wide.hidden)
    embedding = partial(_embedding_bytes, student.output_weight, table, layout.embedding)
    plans = [TensorPlan("token_embd.weight", table, layout.embedding, embedding)]
    for index, layer in enumerate(student.model.layers):
        if not isinstance(layer, Layer):
            raise AssertionError("the student has a layer of another kind")
        for own, theirs in LINEARS.items():
            linear = layer.get_submodule(own)
            if not isinstance(linear, BitLinear):
                raise AssertionError(f"{own} is not a ternary linear")
            factor = wide.up_factor if theirs == "ffn_up" else 1.0
            shape = layout.shape.linear_shapes()[own]
            plans += _linear(linear, f"blk.{index}.{theirs}", shape, layout.linear_type(shape[1]), factor)
        norms = {
            "attn_norm": layer.input_layernorm.weight,
            "attn_sub_norm": layer.self_attn.attn_sub_norm.weight,
            "ffn_norm": layer.post_attention_layernorm.weight,
        }
        plans += [
            _norm(f"blk.{index}.{key}", weight, wide.hidden, wide.hidden_factor) for key, weight in norms.items()
        ]
        plans.append(_norm(f"blk.{index}.ffn_sub_norm", layer.mlp.ffn_sub_norm.weight, wide.ffn, wide.ffn_factor))
    return [*plans, _norm("output_norm", student.model.norm.weight, wide.hidden, wide.hidden_factor)]


def _linear(linear: BitLinear, name: str, shape: tuple[int, int], kind: BlockType, factor: float) -> list[TensorPlan]:
    return [
        TensorPlan(f"{name}.weight", shape, kind, partial(_code_bytes, linear, shape, kind)),
        TensorPlan(f"{name}.scale", (1,), F32, partial(_scale_bytes, linear, factor)),
    ]


def _norm(name: str, weight: Tensor, size: int, factor: float) -> TensorPlan:
    def make() -> Bytes:
        return F32.rows(padded(_array(weight) * np.float32(factor), size)[None])

    return TensorPlan(f"{name}.weight", (size,), F32, make)


def _codes(linear: BitLinear) -> tuple[Tensor, Tensor]:
    """Codes [O, I] and their scale."""
    if isinstance(linear, PackedBitLinear):
        return unpack(linear.packed, linear.out_features), linear.scale
    return ternarize(linear.weight.detach())


def _code_bytes(linear: BitLinear, shape: tuple[int, int], kind: BlockType) -> Bytes:
    return kind.rows(padded(_codes(linear)[0].cpu().numpy(), *shape))


def _scale_bytes(linear: BitLinear, factor: float) -> Bytes:
    return F32.rows(np.array([[float(_codes(linear)[1]) * factor]], np.float32))


def _embedding_bytes(weight: Tensor, shape: tuple[int, int], kind: BlockType) -> Bytes:
    return kind.rows(padded(_array(weight), *shape))


def _array(weight: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = weight.detach().float().cpu().numpy()
    return values
