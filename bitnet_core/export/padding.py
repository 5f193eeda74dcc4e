"""A student's shape made wider with zeros, so that rows fill whole blocks, without another function.

Zeros are ternary. Heads are added whole, a group at a time, and zero rows of q, k and v make them give nothing. A
wider RMSNorm divides by a smaller mean: for x of D values and D' - D zeros, mean(x'^2) = (D/D')·mean(x^2), so the
weight is multiplied by sqrt(D/D') and epsilon by D/D'. A GGUF has one epsilon for all norms. `ffn_sub_norm`, of
another width (F, F'), gets the one it needs when its input is scaled by `up_factor` = sqrt((D/D')·(F'/F)), which
`up_proj`'s scale takes; its weight is then multiplied by sqrt(F/F').
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitnet_core.model.config import StudentConfig


@dataclass(frozen=True)
class Padding:
    """The sizes of the wider student, and what keeps its function."""

    hidden: int
    heads: int
    kv_heads: int
    ffn: int
    epsilon: float
    hidden_factor: float
    """On the weights of every norm but `ffn_sub_norm`."""
    ffn_factor: float
    up_factor: float


def padding_for(config: StudentConfig, hidden_block: int, ffn_block: int) -> Padding:
    """The least padding that makes the hidden size and the feed-forward size multiples of these."""
    group = config.num_attention_heads // config.num_key_value_heads
    hidden = _up(config.hidden_size, math.lcm(hidden_block, group * config.head_dim))
    if config.hidden_size % hidden_block == 0:
        hidden = config.hidden_size
    ffn = _up(config.intermediate_size, ffn_block)
    heads = hidden // config.head_dim
    narrow, ffn_narrow = config.hidden_size / hidden, config.intermediate_size / ffn
    return Padding(
        hidden=hidden,
        heads=heads,
        kv_heads=heads // group,
        ffn=ffn,
        epsilon=config.rms_norm_eps * narrow,
        hidden_factor=math.sqrt(narrow),
        ffn_factor=math.sqrt(ffn_narrow),
        up_factor=math.sqrt(narrow / ffn_narrow),
    )


def padded(values: NDArray[np.generic], *shape: int) -> NDArray[np.generic]:
    """The array with zeros behind its last rows and columns."""
    if values.shape == shape:
        return values
    return np.pad(values, [(0, wide - narrow) for narrow, wide in zip(values.shape, shape, strict=True)])


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
