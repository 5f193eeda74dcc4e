"""A source in a GGUF file of architecture `llama`, each tensor dequantised when it is read.

The file's origin is unknown: its header is read within bounds, and every tensor must lie inside the file before one
is read. llama.cpp rotates neighbouring dimensions of a head, where Llama's own weights rotate halves: its converter
reorders the rows of q and k, and this undoes it.
"""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from bitnet_core import files
from bitnet_core.errors import BitnetError
from bitnet_core.export.gguf_file import ALIGNMENT
from bitnet_core.export.gguf_read import Cursor, Damaged, opened, read_header, read_tensor
from bitnet_core.pretrained.source import (
    EMBEDDING,
    FINAL_NORM,
    HEAD,
    DoesNotFit,
    Source,
    Unchanged,
    require_tensors,
    shape_of,
)

_FIX = "download it again"
_TOKENS = "tokenizer.ggml.tokens"
_PARTS = "split.count"
_OWN = {"token_embd.weight": EMBEDDING, "output_norm.weight": FINAL_NORM, "output.weight": HEAD}
_IN_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class _Stored:
    """A tensor's shape, its type, and where its bytes begin in the file."""

    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    begin: int

    @property
    def bytes(self) -> int:
        weights, size = gguf.GGML_QUANT_SIZES[self.kind]
        if not self.shape or self.shape[-1] % weights:
            raise Damaged(f"a row of {self.shape[-1:]} weights is not of whole blocks")
        return int(math.prod(self.shape) // weights * size)


def open_gguf(path: Path, name: str, sha256: str = "") -> Source:
    """Read the header. `sha256` is the file's hash where it is known. BitnetError for a file that is damaged or cut.

    DoesNotFit for another architecture.
    """
    unchanged = Unchanged([path])
    with opened(path, _FIX) as data:
        cursor = Cursor(data)
        count, keys = read_header(cursor, (_TOKENS,))
        if keys.get("general.architecture") != "llama":
            raise DoesNotFit(name, f"its architecture is {keys.get('general.architecture')!r:.40}")
        if type(parts := keys.get(_PARTS, 1)) is int and parts > 1:
            raise BitnetError(
                f"{name} is one of the {parts} files of its model; join them (llama-gguf-split --merge) and name the "
                "whole one."
            )
        stored = _stored(cursor, count, keys, len(data))
    found: dict[str, str] = {}
    for theirs in stored:
        if (other := found.setdefault(_own_name(theirs), theirs)) != theirs:
            raise BitnetError(f"{name} holds one tensor as {other:.80} and as {theirs:.80}; {_FIX}.")
    shape = shape_of(name, _shape_values(name, keys, stored))
    require_tensors(name, {own: stored[theirs].shape for own, theirs in found.items()}, shape)
    tokens = keys.get(_TOKENS)
    if not tokens:
        raise DoesNotFit(name, "it holds no vocabulary")

    def read(own: str) -> Tensor:
        values = _values(path, stored[found[own]])
        heads = {"q_proj": shape.num_attention_heads, "k_proj": shape.num_key_value_heads}.get(own.split(".")[-2])
        return unpermuted(values, heads) if heads else values

    def hashed() -> str:
        return sha256 or files.sha256_file(path)

    return Source(
        name, shape, HEAD not in found, dict(enumerate(tokens)), unchanged.checked(read), unchanged.checked(hashed)
    )


def unpermuted(weight_OI: Tensor, heads: int) -> Tensor:
    """Rows of q or k in Llama's order: of each head, the even rows of llama.cpp's come first, then the odd ones."""
    rows, columns = weight_OI.shape
    pairs = weight_OI.view(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def _stored(cursor: Cursor, count: int, keys: dict[str, Any], size: int) -> dict[str, _Stored]:
    """Every tensor of the file; Damaged if one doesn't lie in it, or lies on another."""
    alignment = keys.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise Damaged("its alignment is not a number")
    listed = [read_tensor(cursor) for _ in range(count)]
    start = -(-cursor.at // alignment) * alignment
    found = {}
    for name, shape, number, offset in listed:
        try:
            kind = gguf.GGMLQuantizationType(number)
        except ValueError:
            raise Damaged(f"a tensor is of type {number}") from None
        if name in found:
            raise Damaged(f"it has two tensors {name!r:.60}")
        found[name] = _Stored(shape, kind, start + offset)
    if any(one.begin + one.bytes > size for one in found.values()):
        raise Damaged("its end is missing")
    in_order = sorted(found.values(), key=lambda one: one.begin)
    if any(after.begin < one.begin + one.bytes for one, after in itertools.pairwise(in_order)):
        raise Damaged("its tensors lie on each other")
    return found


def _own_name(theirs: str) -> str:
    """The name in transformers; their own for a tensor that a Llama hasn't got."""
    parts = theirs.split(".")
    if len(parts) == 4 and parts[0] == "blk" and parts[3] == "weight" and parts[2] in _IN_LAYER:
        return f"model.layers.{parts[1]}.{_IN_LAYER[parts[2]]}.weight"
    return _OWN.get(theirs, theirs)


def _shape_values(name: str, keys: dict[str, Any], stored: dict[str, _Stored]) -> dict[str, Any]:
    def key(suffix: str, default: Any = None) -> Any:
        return keys.get(f"llama.{suffix}", default)

    heads, hidden = key("attention.head_count"), key("embedding_length")
    if type(heads) is not int or type(hidden) is not int or heads < 1 or hidden % heads:
        raise DoesNotFit(name, f"it has {heads!r:.20} heads in a width of {hidden!r:.20}")
    for suffix in ("attention.key_length", "attention.value_length", "rope.dimension_count"):
        if key(suffix, hidden // heads) != hidden // heads:
            raise DoesNotFit(name, f"{suffix} is {key(suffix)!r:.20} for {heads} heads of {hidden}")
    # As in llama.cpp, a factor without a type is a linear one, and the second name is its older one.
    factor = key("rope.scaling.factor", key("rope.scale_linear", 1.0))
    if key("rope.scaling.type", "none" if factor in (0.0, 1.0) else "linear") != "none":
        raise DoesNotFit(name, "its rotary positions are scaled")
    embedding = stored.get("token_embd.weight")
    return {
        "vocab_size": embedding.shape[0] if embedding and embedding.shape else 0,
        "hidden_size": hidden,
        "intermediate_size": key("feed_forward_length"),
        "num_hidden_layers": key("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": key("attention.head_count_kv", heads),
        "max_position_embeddings": key("context_length"),
        "rope_theta": key("rope.freq_base", 10_000.0),
        "rms_norm_eps": key("attention.layer_norm_rms_epsilon"),
    }


def _values(path: Path, one: _Stored) -> Tensor:
    """A tensor's weights, fp32. DoesNotFit for a type that the library can't dequantise."""
    data = np.memmap(path, np.uint8, "r", one.begin, (one.bytes,))
    try:
        with np.errstate(all="ignore"):  # who reads it refuses numbers that are not finite
            values = gguf.quants.dequantize(data.reshape(*one.shape[:-1], -1), one.kind)
    except NotImplementedError as error:
        raise DoesNotFit(path.name, f"its type {one.kind.name} can't be dequantised") from error
    return torch.from_numpy(np.array(values, np.float32).reshape(one.shape))
