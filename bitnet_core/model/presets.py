"""Named shapes of students, and how other sizes change them. No tensors here."""

from dataclasses import dataclass

from bitnet_core.errors import UsageError
from bitnet_core.model.config import LEAST_MULTIPLE, SIZE_MULTIPLE, StudentConfig
from bitnet_core.settings.presets import PLANNED
from bitnet_core.settings.values import StudentOptions

LEAST_POSITIONS = 2048
"""Rotary positions cost no memory, and answers may be longer than training sequences."""


@dataclass(frozen=True)
class _Shape:
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    rope_theta: float = 500_000.0


_SHAPES = {
    "nano": _Shape(hidden=256, layers=4, heads=4, kv_heads=4, ffn=768),
    "mini": _Shape(hidden=768, layers=12, heads=12, kv_heads=12, ffn=3072),
    # SmolLM2 135M and 360M (arXiv 2502.02737), Llama 3.2 1B, and BitNet b1.58 2B4T (arXiv 2504.12285).
    "smollm2-135m": _Shape(hidden=576, layers=30, heads=9, kv_heads=3, ffn=1536, rope_theta=100_000.0),
    "360m": _Shape(hidden=960, layers=32, heads=15, kv_heads=5, ffn=2560, rope_theta=100_000.0),
    "1b": _Shape(hidden=2048, layers=16, heads=32, kv_heads=8, ffn=8192),
    "2b4t": _Shape(hidden=2560, layers=30, heads=20, kv_heads=5, ffn=6912),
    "7b": _Shape(hidden=4096, layers=32, heads=32, kv_heads=32, ffn=11008),
}
# `portable` runs here, in transformers and in llama.cpp, which has only SiLU for this model.
_PROFILES = {"portable": "silu", "b158": "relu2"}


def preset(
    name: str,
    vocab_size: int,
    *,
    max_positions: int = LEAST_POSITIONS,
    hidden_size: int | None = None,
    layers: int | None = None,
    heads: int | None = None,
    head_dim: int | None = None,
    profile: str = "portable",
    hadamard: bool = False,
    a4_policy: str = "all",
) -> StudentConfig:
    """The shape of a student: a preset, such as `nano`, `smollm2-135m` or `7b`, with some of its sizes replaced.

    Any two of hidden size, heads and head size decide the third. Hidden size alone keeps the preset's head count;
    heads or head size alone keep its hidden size. Another hidden size keeps the preset's ratio of the feed-forward
    size to it, rounded up to a multiple of 256; another number of heads keeps as many of them to a key/value head as
    the preset has, where that divides it, else one. `max_positions` is the longest context in tokens. `profile` is
    `portable` (SiLU) or `b158` (squared ReLU, as in BitNet b1.58 2B4T); `hadamard` transforms the inputs of o_proj
    and down_proj (BitNet v2), which no other program can run. `a4_policy` says which inputs the flip lowers, see
    `StudentConfig`.

    Raises UsageError for an unknown name and for sizes that don't fit together.
    """
    if name not in _SHAPES:
        raise UsageError(f"MINI_PRESET is {name!r}; it is one of {', '.join(PLANNED)}.")
    shape = _SHAPES[name]
    if hidden_size is None:
        hidden_size = heads * head_dim if heads and head_dim else shape.hidden
    if heads is None:
        heads = max(1, hidden_size // head_dim) if head_dim else shape.heads
    if hidden_size % LEAST_MULTIPLE:
        raise UsageError(f"The hidden size (MINI_DIM) is {hidden_size}; give a multiple of {LEAST_MULTIPLE}.")
    if heads * (head_dim or hidden_size // heads) != hidden_size:
        raise UsageError(
            f"{heads} heads of {head_dim or 'equal'} size don't make a hidden size of {hidden_size}; "
            "MINI_HEADS × MINI_HEAD_DIM must equal MINI_DIM."
        )
    ffn = -(-shape.ffn * hidden_size // (shape.hidden * SIZE_MULTIPLE)) * SIZE_MULTIPLE
    group = shape.heads // shape.kv_heads
    return StudentConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        intermediate_size=ffn,
        num_hidden_layers=layers or shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads if heads % group else heads // group,
        max_position_embeddings=max_positions,
        rope_theta=shape.rope_theta,
        hidden_act=_PROFILES[profile],
        hadamard=hadamard,
        a4_policy=a4_policy,
    )


def student_config(options: StudentOptions, vocab_size: int, max_seq_len: int) -> StudentConfig:
    """The shape that the options ask for, for sequences of up to `max_seq_len` tokens and for longer answers."""
    return preset(
        options.preset,
        vocab_size,
        max_positions=max(LEAST_POSITIONS, max_seq_len),
        hidden_size=options.hidden_size,
        layers=options.layers,
        heads=options.heads,
        head_dim=options.head_dim,
        profile=options.profile,
        hadamard=options.hadamard,
        a4_policy=options.a4_policy,
    )
