"""One layer of the student: norms, ternary linears, attention and feed-forward. It knows no losses and no files.

Shapes: B sequences, T new tokens, S = cached + new tokens, D hidden, F feed-forward, H heads, G key/value heads,
C head size.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bitnet_core.model import integers
from bitnet_core.model.cache import LayerMemory
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.integers import Codes
from bitnet_core.model.quant import (
    hadamard,
    partly,
    quantize_activation_ste,
    quantize_weight,
    quantize_weight_ste,
    ternarize,
    widened,
)

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the rotary embedding, each [B or 1, 1, T, C]."""


class RMSNorm(nn.Module):
    """x / rms(x) · weight, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():  # an autograd function costs as much as what it computes for one token
            return _scaled(x, self.weight, _inverse_rms(x, self.eps))
        out: Tensor = _Normalised.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return out


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(widened(x).pow(2).mean(-1, keepdim=True) + eps)


def _scaled(x: Tensor, weight: Tensor, inverse: Tensor) -> Tensor:
    return weight * (widened(x) * inverse).to(x.dtype)


class _Normalised(torch.autograd.Function):
    """RMSNorm that saves its input and one number per token; autograd would save a second tensor of full width."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        inverse = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, inverse)
        return _scaled(x, weight, inverse)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        scaled, grad = widened(x) * inverse, widened(grads[0])
        d_weight = (grad * scaled).flatten(0, -2).sum(0)
        d_scaled = grad * weight
        d_x = (d_scaled - scaled * (d_scaled * scaled).mean(-1, keepdim=True)).mul_(inverse)
        return d_x.to(x.dtype), d_weight.to(weight.dtype), None


class BitLinear(nn.Module):
    """y = x_q W_qᵀ with a full-precision master `weight` [out, in]; gradients pass straight through both quantisers.

    `activation_bits` is 8 or 4. None switches both quantisers off, for the full-precision twin that training is
    compared with. With `hadamard` the input is transformed before it is quantised.
    """

    _held: Tensor | None = None
    _held_codes: tuple[Tensor, Tensor] | None = None
    """Codes [O, I] and the scale."""
    _joint: tuple[Tensor, Tensor] | None = None
    """Codes and a scale for each row, of this linear and those that are held together with it."""
    quantized_share: Tensor | None = None
    """How much of both quantisers acts, a number from 0 to 1; None = all of it. See `Student.quantized_share`."""

    def __init__(self, in_features: int, out_features: int, *, hadamard: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features, self.hadamard = in_features, out_features, hadamard
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.activation_bits: int | None = 8

    def quantize_input(self, x: Tensor) -> Tensor | Codes:
        """The input [..., I] of `project`: as codes where they can be multiplied."""
        x = hadamard(x) if self.hadamard else x
        if self.activation_bits and self._held_codes is not None and integers.usable(x, self.activation_bits):
            return integers.codes_of(x, self.activation_bits)
        if self.activation_bits is None:
            return x
        return quantize_activation_ste(x, self.activation_bits, self.quantized_share)

    def project(self, x_q: Tensor | Codes) -> Tensor:
        """The product [..., O] with what `quantize_input` gave, of this linear or of another with the same input."""
        if isinstance(x_q, Codes):
            if self._held_codes is not None:
                return _product(x_q, *self._held_codes)
            x_q = x_q.values()
        if self.activation_bits is None:
            return F.linear(x_q, self.weight)
        return F.linear(x_q, quantize_weight_ste(self.weight, self._held, self.quantized_share))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.quantize_input(x))

    def hold(self, keep: bool) -> None:
        """Quantise the weight now and use the result until `hold(False)`; the weight must not change meanwhile.

        Where no gradient is wanted and the processor multiplies whole numbers fast, the codes are kept instead.
        """
        self._held, self._held_codes, self._joint = None, None, None
        if keep and self.quantized_share is None and integers.usable(self.weight, self.activation_bits):
            self._held_codes = ternarize(self.weight.detach())
        elif keep and self.activation_bits is not None:
            self._held = partly(self.weight.detach(), quantize_weight(self.weight), self.quantized_share)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.activation_bits}"


def _product(x: Codes, codes_OI: Tensor, scale: Tensor) -> Tensor:
    """[..., O], with one scale or one for each row of the weight."""
    out_MO = integers.product(x.codes.flatten(0, -2), codes_OI)
    return out_MO.view(*x.codes.shape[:-1], -1) * (x.step * scale)


def hold_together(linears: Sequence[BitLinear], keep: bool) -> None:
    """`hold` for linears that share an input. Their codes become parts of one tensor, for `project_together`."""
    for linear in linears:
        linear.hold(keep)
    held = [linear._held_codes for linear in linears if linear._held_codes is not None]
    if 1 < len(held) == len(linears):
        sizes = [len(codes_OI) for codes_OI, _ in held]
        joint_OI = torch.cat([codes_OI for codes_OI, _ in held])
        scales_O = torch.cat([scale.expand(size) for size, (_, scale) in zip(sizes, held, strict=True)])
        for linear, part_OI, (_, scale) in zip(linears, torch.split(joint_OI, sizes), held, strict=True):
            linear._held_codes = part_OI, scale
        linears[0]._joint = joint_OI, scales_O


def project_together(linears: Sequence[BitLinear], x_q: Tensor | Codes) -> Sequence[Tensor]:
    """What each of these linears makes of their common input: one product where their codes are held together."""
    if isinstance(x_q, Codes) and linears[0]._joint is not None:
        together = _product(x_q, *linears[0]._joint)
        return torch.split(together, [linear.out_features for linear in linears], dim=-1)
    return [linear.project(x_q) for linear in linears]


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped keys; `attn_sub_norm` comes before `o_proj`."""

    def __init__(self, config: StudentConfig, layer: int) -> None:
        super().__init__()
        hidden, kv = config.hidden_size, config.num_key_value_heads * config.head_dim
        self.layer, self.head_dim = layer, config.head_dim
        self.grouped = config.num_key_value_heads != config.num_attention_heads
        self.q_proj = BitLinear(hidden, hidden)
        self.k_proj = BitLinear(hidden, kv)
        self.v_proj = BitLinear(hidden, kv)
        self.o_proj = BitLinear(hidden, hidden, hadamard=config.hadamard)
        self.attn_sub_norm = RMSNorm(hidden, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, rotation: Rotation, mask: Tensor | None, cache: LayerMemory | None) -> Tensor:
        batch, tokens, hidden = x_BTD.shape
        x_q = self.q_proj.quantize_input(x_BTD)
        heads = (batch, tokens, -1, self.head_dim)
        projected = project_together((self.q_proj, self.k_proj, self.v_proj), x_q)
        q_BHTC, k_BGSC, v_BGSC = (part.view(heads).transpose(1, 2) for part in projected)
        q_BHTC, k_BGSC = rotate(q_BHTC, rotation), rotate(k_BGSC, rotation)
        if cache is not None:
            k_BGSC, v_BGSC = cache.update(self.layer, k_BGSC, v_BGSC)
            k_BGSC, v_BGSC = k_BGSC.to(q_BHTC.dtype), v_BGSC.to(q_BHTC.dtype)
        mixed_BHTC = F.scaled_dot_product_attention(
            q_BHTC,
            k_BGSC,
            v_BGSC.to(q_BHTC.dtype),
            attn_mask=mask,
            is_causal=mask is None and tokens > 1,
            enable_gqa=self.grouped,
        )
        mixed_BTD = mixed_BHTC.transpose(1, 2).reshape(batch, tokens, hidden)
        out_BTD: Tensor = self.o_proj(self.attn_sub_norm(mixed_BTD))
        return out_BTD


class FeedForward(nn.Module):
    """down(norm(act(gate) · up)), the activation being SiLU or squared ReLU."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        hidden, ffn = config.hidden_size, config.intermediate_size
        self.gate_proj = BitLinear(hidden, ffn)
        self.up_proj = BitLinear(hidden, ffn)
        self.down_proj = BitLinear(ffn, hidden, hadamard=config.hadamard)
        self.ffn_sub_norm = RMSNorm(ffn, config.rms_norm_eps)
        self.squared_relu = config.hidden_act == "relu2"

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_q = self.gate_proj.quantize_input(x_BTD)
        gate_BTF, up_BTF = project_together((self.gate_proj, self.up_proj), x_q)
        gated_BTF = _gated(gate_BTF, up_BTF, self.squared_relu)
        out_BTD: Tensor = self.down_proj(self.ffn_sub_norm(gated_BTF))
        return out_BTD


def _gated(gate: Tensor, up: Tensor, squared_relu: bool) -> Tensor:
    if not torch.is_grad_enabled():
        return _activation(gate, squared_relu) * up
    out: Tensor = _Gated.apply(gate, up, squared_relu)  # type: ignore[no-untyped-call]
    return out


class _Gated(torch.autograd.Function):
    """act(gate) · up. The backward pass computes the activation again: cheaper than to save so wide a tensor."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, squared_relu: bool) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.squared_relu = squared_relu
        return _activation(gate, squared_relu) * up

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        d_act = grads[0] * up
        d_gate = 2 * F.relu(gate) * d_act if ctx.squared_relu else torch.ops.aten.silu_backward(d_act, gate)
        return d_gate, grads[0] * _activation(gate, ctx.squared_relu), None


def _activation(gate: Tensor, squared_relu: bool) -> Tensor:
    return F.relu(gate).square() if squared_relu else F.silu(gate)


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the residual stream."""

    def __init__(self, config: StudentConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, rotation: Rotation, mask: Tensor | None, cache: LayerMemory | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotation, mask, cache)
        out_BTD: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out_BTD

    def hold(self, keep: bool) -> None:
        """`BitLinear.hold` for all linears, together where they share an input."""
        attention, mlp = self.self_attn, self.mlp
        hold_together((attention.q_proj, attention.k_proj, attention.v_proj), keep)
        hold_together((mlp.gate_proj, mlp.up_proj), keep)
        attention.o_proj.hold(keep)
        mlp.down_proj.hold(keep)


def bit_linears(module: nn.Module) -> Iterator[BitLinear]:
    """All BitLinears in a module."""
    return (child for child in module.modules() if isinstance(child, BitLinear))


def hold_all(module: nn.Module, keep: bool) -> None:
    """`hold` for the linears of all layers in a module."""
    for child in module.modules():
        if isinstance(child, Layer):
            child.hold(keep)


def rotate(x_BHTC: Tensor, rotation: Rotation) -> Tensor:
    """Rotary embedding in halves: dimension i rotates with i + C/2 (Su et al. 2021, in Llama's layout)."""
    cos_B1TC, sin_B1TC = rotation
    first, second = x_BHTC.chunk(2, dim=-1)
    return x_BHTC * cos_B1TC + torch.cat((-second, first), dim=-1) * sin_B1TC
