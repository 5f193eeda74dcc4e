"""One layer of a pass, checked against a second computation: float64, numpy, and no arithmetic of `model/`.

Without it a pass at three bits that claims four would be accepted: it only has to differ from the pass at eight.
Each step of the layer is computed from what the pass really fed into it, because one value that rounds the other way
would otherwise change every later one. With Q = 2^(bits−1) − 1:

    n = x/rms(x)·w,  codes = clip(round(n·Q/max|n|), −Q−1, Q) per token,  y = codes·Wᵀ·s·max|n|/Q
    x += o(norm(attention(rope(q), rope(k), v))),  x += down(norm(silu(gate)·up))

Shapes: t tokens that are watched, D hidden, H heads, G key/value heads, C head size, R packed rows, O out features,
I in features.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.layers import BitLinear
from bitnet_core.model.packing import CODES_PER_BYTE
from bitnet_core.model.student import Student

Float64 = npt.NDArray[np.float64]
_TOKENS = 8
_SMALLEST = 1e-5
_ROWS = 256
"""Packed rows that are widened to float64 at a time."""
_ERROR_SHARE = 0.25
"""Of the distance between a width and the next smaller one: the most that a linear may be off at its own.

float32 alone is 1e-7 off; a value on the border of two levels that rounds the other way adds a little more."""
_STEP_ERROR = 1e-3
"""The most that a step without a quantiser may be off: float32, and a GPU's own order of sums."""


@dataclass
class Watched:
    """What the last layer read and wrote at the first tokens of the first sequence, and its linears by name."""

    input_tD: Float64 = field(default_factory=lambda: np.empty((0, 0)))
    output_tD: Float64 = field(default_factory=lambda: np.empty((0, 0)))
    linear_inputs_tI: dict[str, Float64] = field(default_factory=dict)
    linear_outputs_tO: dict[str, Float64] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerCheck:
    """Largest relative error of a linear at the pass's width; smallest at one bit less; largest of other steps."""

    error: float
    one_bit_less: float
    other_steps: float


@contextlib.contextmanager
def last_layer_watched(student: Student) -> Iterator[Watched]:
    """Keep what the last layer computes inside the block; the computation stays the same."""
    seen = Watched()
    layer = student.model.layers[-1]
    linears = {name: module for name, module in layer.named_modules() if isinstance(module, BitLinear)}

    def keep(_layer: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.input_tD, seen.output_tD = _first_tokens(inputs[0]), _first_tokens(output)

    def kept(
        call: Callable[[BitLinear, Any], Any], linear: BitLinear, into: dict[str, Float64], name: str
    ) -> Callable[[Any], Any]:
        def watched(x: Any) -> Any:
            y = call(linear, x)
            into[name] = _first_tokens(x if into is seen.linear_inputs_tI else y)
            return y

        return watched

    handle = layer.register_forward_hook(keep)
    try:
        for name, linear in linears.items():
            kind = type(linear)
            linear.__dict__["quantize_input"] = kept(kind.quantize_input, linear, seen.linear_inputs_tI, name)
            linear.__dict__["project"] = kept(kind.project, linear, seen.linear_outputs_tO, name)
        yield seen
    finally:
        handle.remove()
        for linear in linears.values():
            linear.__dict__.pop("quantize_input", None)
            linear.__dict__.pop("project", None)


def _first_tokens(x_BTI: Tensor) -> Float64:
    return np.asarray(x_BTI[0, :_TOKENS].detach().to("cpu", torch.float64).numpy())


def check_layer(student: Student, seen: Watched, bits: int) -> LayerCheck:
    """Compare what a pass of a packed student at `bits` did with the second computation.

    BitnetError unless every linear is much closer to its own width than to one bit less, and all else agrees. Only
    for students without a Hadamard transform and with SiLU: the dry run builds no others.
    """
    config, place = student.config, len(student.model.layers) - 1
    prefix = f"model.layers.{place}."
    tensors = {n.removeprefix(prefix): value for n, value in student.state_dict().items() if n.startswith(prefix)}
    inputs = seen.linear_inputs_tI | {
        other: seen.linear_inputs_tI[first]
        for first, other in (
            ("self_attn.q_proj", "self_attn.k_proj"),
            ("self_attn.q_proj", "self_attn.v_proj"),
            ("mlp.gate_proj", "mlp.up_proj"),
        )
    }
    own, below = [], []
    for name, (rows, _columns) in config.linear_shapes().items():
        packed_RI, scale = tensors[f"{name}.packed"].cpu().numpy(), float(tensors[f"{name}.scale"])
        own_bits = config.input_bits(name, bits) or bits
        at_bits, at_less = (
            _product(inputs[name], packed_RI, scale, rows, width) for width in (own_bits, own_bits - 1)
        )
        own.append(_distance(seen.linear_outputs_tO[name], at_bits))
        below.append(_distance(at_less, at_bits))
    others = max(_distance(found, expected) for found, expected in _other_steps(config, tensors, seen))
    result = LayerCheck(max(own), min(below), others)
    if not result.error <= _ERROR_SHARE * result.one_bit_less or not result.other_steps <= _STEP_ERROR:
        raise BitnetError(
            f"Layer {place} of the pass at A{bits} differs from an independent computation at that width: its "
            f"linears by {result.error:.2g} (one bit less would differ by {result.one_bit_less:.2g}), its other "
            f"steps by {result.other_steps:.2g}; report this shape as a bug."
        )
    return result


def _distance(found: Float64, expected: Float64) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _product(x_tI: Float64, packed_RI: npt.NDArray[np.uint8], scale: float, rows: int, bits: int) -> Float64:
    largest = 2 ** (bits - 1) - 1
    step_t1 = np.maximum(np.abs(x_tI).max(axis=-1, keepdims=True), _SMALLEST) / largest
    codes_tI = np.clip(np.rint(x_tI / step_t1), -largest - 1, largest)
    # Two bits of a byte are a code + 1; the k-th pair of row r belongs to row k·R + r of the weight.
    y_t4R = np.empty((len(x_tI), CODES_PER_BYTE, len(packed_RI)))
    for start in range(0, len(packed_RI), _ROWS):
        piece_rI = packed_RI[start : start + _ROWS]
        for pair in range(CODES_PER_BYTE):
            weights_rI = ((piece_rI >> (2 * pair)) & 3).astype(np.float64) - 1
            y_t4R[:, pair, start : start + _ROWS] = codes_tI @ weights_rI.T
    y_tO: Float64 = y_t4R.reshape(len(x_tI), -1)[:, :rows] * step_t1 * scale
    return y_tO


def _other_steps(
    config: StudentConfig, tensors: Mapping[str, Tensor], seen: Watched
) -> Iterator[tuple[Float64, Float64]]:
    """Pairs of what the layer computed between its linears, and what it should have."""
    read, wrote = seen.linear_inputs_tI, seen.linear_outputs_tO

    def norm(x_tI: Float64, name: str) -> Float64:
        weight_I = tensors[f"{name}.weight"].to("cpu", torch.float64).numpy()
        scaled: Float64 = (
            x_tI / np.sqrt(np.square(x_tI).mean(axis=-1, keepdims=True) + config.rms_norm_eps) * weight_I
        )
        return scaled

    yield read["self_attn.q_proj"], norm(seen.input_tD, "input_layernorm")
    mixed_tD = _attention(config, *(wrote[f"self_attn.{name}_proj"] for name in "qkv"))
    yield read["self_attn.o_proj"], norm(mixed_tD, "self_attn.attn_sub_norm")
    between_tD = seen.input_tD + wrote["self_attn.o_proj"]
    yield read["mlp.gate_proj"], norm(between_tD, "post_attention_layernorm")
    gate_tF, up_tF = wrote["mlp.gate_proj"], wrote["mlp.up_proj"]
    yield read["mlp.down_proj"], norm(gate_tF / (1 + np.exp(-gate_tF)) * up_tF, "mlp.ffn_sub_norm")
    yield seen.output_tD, between_tD + wrote["mlp.down_proj"]


def _attention(config: StudentConfig, q_tD: Float64, k_tO: Float64, v_tO: Float64) -> Float64:
    """Causal attention, with pairs (i, i + C/2) of q and k as complex numbers turned by position · theta^(−2i/C)."""
    tokens, half = len(q_tD), config.head_dim // 2
    group = config.num_attention_heads // config.num_key_value_heads
    frequencies_c = config.rope_theta ** (-np.arange(half) / half)
    turns_tc = np.exp(1j * np.arange(tokens)[:, None] * frequencies_c)

    def heads(x_tO: Float64) -> Float64:
        return x_tO.reshape(tokens, -1, config.head_dim).transpose(1, 0, 2)

    def turned(x_GtC: Float64) -> npt.NDArray[np.complex128]:
        pairs: npt.NDArray[np.complex128] = (x_GtC[..., :half] + 1j * x_GtC[..., half:]) * turns_tc
        return pairs

    q_Htc = turned(heads(q_tD))
    k_Htc = np.repeat(turned(heads(k_tO)), group, axis=0)
    scores_Htt = (q_Htc @ k_Htc.conj().transpose(0, 2, 1)).real / np.sqrt(config.head_dim)
    scores_Htt[:, np.triu(np.ones((tokens, tokens), bool), 1)] = -np.inf
    weights_Htt = np.exp(scores_Htt - scores_Htt.max(axis=-1, keepdims=True))
    weights_Htt /= weights_Htt.sum(axis=-1, keepdims=True)
    mixed_HtC = weights_Htt @ np.repeat(heads(v_tO), group, axis=0)
    return np.asarray(mixed_HtC.transpose(1, 0, 2).reshape(tokens, -1))
