"""How large the dry run's student is, and how much of it fits into memory. It allocates nothing."""

from dataclasses import replace

import torch

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.evaluation.memory import available_bytes
from bitnet_core.model.config import SIZE_MULTIPLE, StudentConfig
from bitnet_core.model.packing import packed_rows
from bitnet_core.model.presets import LEAST_POSITIONS
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import DryRunOptions
from bitnet_core.text import size

VOCABULARY = 32_000
LOGIT_BYTES = 32 << 20
"""The most bytes of logits at a time; longer inputs are worked off in pieces."""
_SCRATCH_BYTES = 96 << 20  # one unpacked piece, matmul buffers, random bytes of one matrix


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
    """The same shape with as many layers as fit into `room` bytes; None when not even one does."""
    layers = config.num_hidden_layers
    if (lacking := needed_bytes(config, tokens) - room) > 0:
        layers -= -(-lacking // layer_bytes(config))
    return replace(config, num_hidden_layers=layers) if layers >= 1 else None


def what_fits(
    wanted: StudentConfig, options: DryRunOptions, device: torch.device, reporter: Reporter
) -> StudentConfig:
    """The wanted shape, or fewer layers of it with an alert, or a BitnetError before anything is allocated."""
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
