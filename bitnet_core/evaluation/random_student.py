"""A student of any size with random ternary weights, built packed and layer by layer.

It shows that a shape runs and what that takes; it has learned nothing. The whole model never exists in fp32 or bf16:
random *bytes* become valid codes directly. It knows no settings.

Shapes: D hidden, V vocabulary, R packed rows, I in features, N words of 64 bits.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import assemble, packed_rows
from bitnet_core.model.student import Student

# The low bit of every code in a 64-bit word; and the high bits, as the signed number with this pattern.
_LOW_BITS = 0x5555555555555555
_HIGH_BITS = ~_LOW_BITS
# Large temporaries between tensors that stay would leave holes in the heap. Pieces this small are also below what
# torch spreads over threads, which on a busy machine wait for each other much longer than the work takes.
_PIECE_WORDS = 1 << 14
OnLayer = Callable[[int], None]


def random_codes(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Packed bytes [R, I] of random codes: 0 with probability 1/2, -1 and 1 with 1/4 each.

    Of two random bits per code the low one decides; the high one counts only where the low one is 0. So the
    pattern 3, which is not a code, can't occur.
    """
    count = packed_rows(rows) * columns
    words_N = torch.empty(-(-count // 8), dtype=torch.int64)
    for start in range(0, len(words_N), _PIECE_WORDS):
        piece_n = words_N[start : start + _PIECE_WORDS].random_(-(2**63), None, generator=generator)
        low_n = piece_n & _LOW_BITS
        piece_n &= (~low_n << 1) & _HIGH_BITS
        piece_n |= low_n
    return words_N.view(torch.uint8)[:count].view(-1, columns)


def build(
    config: StudentConfig, seed: int, device: torch.device | str, on_layer: OnLayer = lambda _done: None
) -> Student:
    """A packed student with random weights and the scales of a freshly initialised one.

    The same seed gives the same student on every device. `on_layer` gets the number of finished layers and may
    raise.
    """
    tensors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    fresh = config.initializer_range * math.sqrt(2 / math.pi)  # mean |w| of a normal weight
    onto_residual = fresh / math.sqrt(2 * config.num_hidden_layers)
    for layer in range(config.num_hidden_layers):
        on_layer(layer)
        prefix = f"model.layers.{layer}"
        for name, (rows, columns) in config.linear_shapes().items():
            scale = onto_residual if name.endswith(("o_proj", "down_proj")) else fresh
            tensors[f"{prefix}.{name}.packed"] = random_codes(rows, columns, generator).to(device)
            tensors[f"{prefix}.{name}.scale"] = torch.tensor(scale, device=device)
        for name in ("input_layernorm", "post_attention_layernorm", "self_attn.attn_sub_norm"):
            tensors[f"{prefix}.{name}.weight"] = torch.ones(config.hidden_size, device=device)
        tensors[f"{prefix}.mlp.ffn_sub_norm.weight"] = torch.ones(config.intermediate_size, device=device)
    on_layer(config.num_hidden_layers)
    embedding_VD = torch.empty(config.vocab_size, config.hidden_size)
    embedding_VD.normal_(0.0, config.initializer_range, generator=generator)
    tensors["model.embed_tokens.weight"] = embedding_VD.to(device)
    tensors["model.norm.weight"] = torch.ones(config.hidden_size, device=device)
    return assemble(config, tensors, activation_bits=8)


def component_bytes(student: Student) -> dict[str, int]:
    """Exact bytes of the embedding, of each of the seven linears over all layers, and of the norms."""
    sums: dict[str, int] = {}
    for name, tensor in student.state_dict().items():
        parts = name.split(".")
        part = "embedding" if "embed_tokens" in name else "norms" if "norm" in name else parts[-2]
        sums[part] = sums.get(part, 0) + tensor.numel() * tensor.element_size()
    return sums
