"""The dry run's student: how large it is, how much of it fits into memory, and how it is built.

Its weights are random ternary codes: it shows that a shape runs and what that takes, and has learned nothing. It is
built packed and layer by layer. The whole model never exists in fp32 or bf16: random *bytes* become valid codes
directly.

Shapes: D hidden, V vocabulary, R packed rows, I in features, N words of 64 bits.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.model.config import SIZE_MULTIPLE, StudentConfig
from bitnet_core.model.packing import assemble, packed_rows
from bitnet_core.model.presets import LEAST_POSITIONS
from bitnet_core.model.student import Student
from bitnet_core.process import available_bytes
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import DryRunOptions
from bitnet_core.text import size

VOCABULARY = 32_000
LOGIT_BYTES = 32 << 20
"""The most bytes of logits at a time; those of longer inputs are computed in pieces."""
_SCRATCH_BYTES = 96 << 20  # one unpacked piece, matmul buffers, random bytes of one matrix
# Masks of the low bit and of the high bit of every code in a 64-bit word; the second as a signed number.
_LOW_BITS = 0x5555555555555555
_HIGH_BITS = ~_LOW_BITS
# Large temporaries between tensors that stay would leave holes in the heap. Pieces this small are also below what
# torch spreads over threads, which on a busy machine wait for each other much longer than the work takes.
_PIECE_WORDS = 1 << 14
OnLayer = Callable[[int], None]


# -- how large it is ----------------------------------------------------------------------------------


def feed_forward_size(hidden_size: int) -> int:
    """8/3 of the hidden size rounded up to a multiple of 256, as LLaMA does: 11008 for 4096."""
    return -(-8 * hidden_size // (3 * SIZE_MULTIPLE)) * SIZE_MULTIPLE


def wanted_shape(options: DryRunOptions) -> StudentConfig:
    """The student that the options describe; UsageError for sizes that don't fit together."""
    if options.hidden_size % SIZE_MULTIPLE:
        raise UsageError(f"DRYRUN_DIM is {options.hidden_size}; give a multiple of {SIZE_MULTIPLE}.")
    if options.heads * options.head_dim != options.hidden_size or options.head_dim % 2:
        raise UsageError(
            f"DRYRUN_HEADS × DRYRUN_HEAD_DIM is {options.heads} × {options.head_dim}; it must be DRYRUN_DIM, "
            f"{options.hidden_size}, with an even head size."
        )
    return StudentConfig(
        vocab_size=VOCABULARY,
        hidden_size=options.hidden_size,
        intermediate_size=feed_forward_size(options.hidden_size),
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=max(LEAST_POSITIONS, options.seq_len),
        a4_policy=options.a4_policy,
    )


def layer_bytes(config: StudentConfig) -> int:
    """Bytes of one layer: packed linears with their scales, and the fp32 norms."""
    linears = sum(packed_rows(rows) * columns + 4 for rows, columns in config.linear_shapes().values())
    return linears + 4 * (3 * config.hidden_size + config.intermediate_size)


def needed_bytes(config: StudentConfig, tokens: int) -> int:
    """A generous estimate of what a forward pass over `tokens` tokens needs, besides the program itself."""
    weights = 4 * config.hidden_size * (config.vocab_size + 1) + config.num_hidden_layers * layer_bytes(config)
    activations = 4 * tokens * (12 * config.hidden_size + 6 * config.intermediate_size)
    return weights + activations + 2 * LOGIT_BYTES + _SCRATCH_BYTES


def fit(config: StudentConfig, tokens: int, room: int) -> StudentConfig | None:
    """The same shape with as many layers as fit into `room` bytes; None if not even one fits."""
    layers = config.num_hidden_layers
    if (lacking := needed_bytes(config, tokens) - room) > 0:
        layers -= -(-lacking // layer_bytes(config))
    return replace(config, num_hidden_layers=layers) if layers >= 1 else None


def what_fits(
    wanted: StudentConfig, options: DryRunOptions, device: torch.device, reporter: Reporter
) -> StudentConfig:
    """The wanted shape, or the same with fewer layers and an alert. BitnetError if that is not possible or allowed.

    Allocates nothing.
    """
    tokens = options.batch_size * options.seq_len
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_bytes()
    room, needed = int(free * options.memory_share), needed_bytes(wanted, tokens)
    reporter.log(
        f"{wanted.parameters():,} parameters need about {size(needed)} packed "
        f"({size(4 * wanted.parameters())} in fp32); {size(room)} may be used."
    )
    reporter.log("The weights are random: that A4 and A8 differ shows that both ran, and says nothing about quality.")
    if needed <= room:
        return wanted
    short = f"{size(needed)} are needed and {size(room)} may be used"
    smaller = fit(wanted, tokens, room)
    if smaller is None or not options.may_drop_layers:
        raise BitnetError(
            f"The dry run doesn't fit: {short} (DRYRUN_MAX_ALLOC_FRAC={options.memory_share:g} of the free memory); "
            "close other programs, or set a smaller DRYRUN_LAYERS or DRYRUN_DIM."
        )
    reporter.alert(
        "warning",
        "dryrun_downgraded",
        f"{short}, so only {smaller.num_hidden_layers} of {wanted.num_hidden_layers} layers are built.",
        "The figures are of the smaller shape; close other programs to run the whole one.",
    )
    return smaller


# -- building it --------------------------------------------------------------------------------------


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
    return assemble(config, tensors, [8] * config.num_hidden_layers)


def component_bytes(student: Student) -> dict[str, int]:
    """Exact bytes of the embedding, of each of the seven linears over all layers, and of the norms."""
    sums: dict[str, int] = {}
    for name, tensor in student.state_dict().items():
        parts = name.split(".")
        part = "embedding" if "embed_tokens" in name else "norms" if "norm" in name else parts[-2]
        sums[part] = sums.get(part, 0) + tensor.numel() * tensor.element_size()
    return sums
