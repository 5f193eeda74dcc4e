"""The student: Llama with two sub-norms and ternary linears. It knows nothing of losses, traces or files.

What differs from Llama: all seven linears of a layer are `BitLinear` (ternary weights, 8- or 4-bit inputs);
`attn_sub_norm` stands before `o_proj` and `ffn_sub_norm` before `down_proj`; the output head is the embedding.
Module names are those of transformers' `BitNetForCausalLM`, so a state dict goes from one to the other as it is.

Shapes: B sequences, T new tokens, S = cached + new tokens, D hidden, F feed-forward, V vocabulary, H heads,
G key/value heads, C head size.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from bitnet_core.model.cache import KVCache
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.quant import hadamard, levels, quantize_activation_ste, quantize_weight, quantize_weight_ste

Rotation = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """x / rms(x) · weight, computed in fp32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Normalised.apply(x, self.weight, self.eps)  # type: ignore[no-untyped-call]
        return out


class _Normalised(torch.autograd.Function):
    """RMSNorm that keeps its input and one number a token; autograd's own would keep a second tensor as wide."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = _wide(x)
        inverse = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, inverse)
        return weight * (wide * inverse).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, inverse = ctx.saved_tensors
        scaled, grad = _wide(x) * inverse, _wide(grads[0])
        d_weight = (grad * scaled).flatten(0, -2).sum(0)
        d_scaled = grad * weight
        d_x = (d_scaled - scaled * (d_scaled * scaled).mean(-1, keepdim=True)).mul_(inverse)
        return d_x.to(x.dtype), d_weight.to(weight.dtype), None


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


class BitLinear(nn.Module):
    """y = x_q W_qᵀ with a full-precision master `weight` [out, in]; gradients pass straight through both.

    `activation_bits` is 8 or 4; `None` switches both quantisers off, which only comparisons with a
    full-precision twin have a use for.
    """

    def __init__(self, in_features: int, out_features: int, *, hadamard: bool = False) -> None:
        super().__init__()
        self.in_features, self.out_features, self.hadamard = in_features, out_features, hadamard
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.activation_bits: int | None = 8
        self._held: Tensor | None = None

    def quantize_input(self, x: Tensor) -> Tensor:
        x = hadamard(x) if self.hadamard else x
        return x if self.activation_bits is None else quantize_activation_ste(x, self.activation_bits)

    def project(self, x_q: Tensor) -> Tensor:
        """The product alone, for an input that is quantised already (q, k and v share one; so do gate and up)."""
        if self.activation_bits is None:
            return F.linear(x_q, self.weight)
        return F.linear(x_q, quantize_weight_ste(self.weight, self._held))

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.quantize_input(x))

    def hold(self, keep: bool) -> None:
        """Quantise the weight now and use that until `hold(False)`; the weight must not change in between."""
        self._held = quantize_weight(self.weight) if keep and self.activation_bits is not None else None

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.activation_bits}"


class Attention(nn.Module):
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

    def forward(self, x_BTD: Tensor, rotation: Rotation, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        batch, tokens, hidden = x_BTD.shape
        x_q = self.q_proj.quantize_input(x_BTD)
        heads = (batch, tokens, -1, self.head_dim)
        q_BHTC = _rotate(self.q_proj.project(x_q).view(heads).transpose(1, 2), rotation)
        k_BGSC = _rotate(self.k_proj.project(x_q).view(heads).transpose(1, 2), rotation)
        v_BGSC = self.v_proj.project(x_q).view(heads).transpose(1, 2)
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
        gate_BTF, up_BTF = self.gate_proj.project(x_q), self.up_proj.project(x_q)
        gated_BTF: Tensor = _Gated.apply(gate_BTF, up_BTF, self.squared_relu)  # type: ignore[no-untyped-call]
        out_BTD: Tensor = self.down_proj(self.ffn_sub_norm(gated_BTF))
        return out_BTD


class _Gated(torch.autograd.Function):
    """act(gate) · up. The activation is made again in the backward pass: that costs little, and it is a wide one."""

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
    def __init__(self, config: StudentConfig, layer: int) -> None:
        super().__init__()
        self.self_attn = Attention(config, layer)
        self.mlp = FeedForward(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x_BTD: Tensor, rotation: Rotation, mask: Tensor | None, cache: KVCache | None) -> Tensor:
        x_BTD = x_BTD + self.self_attn(self.input_layernorm(x_BTD), rotation, mask, cache)
        out_BTD: Tensor = x_BTD + self.mlp(self.post_attention_layernorm(x_BTD))
        return out_BTD


class Decoder(nn.Module):
    """The trunk, named `model` in the state dict as transformers does."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Student(nn.Module):
    """Decoder with the tied head. Parameters are fp32 masters; autocast, where used, wraps the forward pass."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Normal(0, `initializer_range`), 1/sqrt(2L) of it on o and down: the residual sums 2L of their outputs."""
        std = self.config.initializer_range
        residual_std = std / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                nn.init.ones_(parameter)
            else:
                onto_residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, 0.0, residual_std if onto_residual else std, generator=generator)

    @property
    def output_weight(self) -> Tensor:
        """The embedding [V, D], which is the head too."""
        return self.model.embed_tokens.weight

    @property
    def activation_bits(self) -> int | None:
        """Those of the first layer, which is the first to flip."""
        return self.layer_bits[0]

    @activation_bits.setter
    def activation_bits(self, bits: int | None) -> None:
        if bits is not None:
            levels(bits)
        self.set_layer_bits([bits] * len(self.model.layers))

    @property
    def layer_bits(self) -> tuple[int | None, ...]:
        return tuple(next(_bit_linears(layer)).activation_bits for layer in self.model.layers)

    def set_layer_bits(self, bits_L: Sequence[int | None]) -> None:
        """Give each layer its own activation bits, as a flip that ramps does."""
        for layer, bits in zip(self.model.layers, bits_L, strict=True):
            for linear in _bit_linears(layer):
                linear.activation_bits = bits

    def bit_linears(self) -> Iterator[BitLinear]:
        return _bit_linears(self)

    @contextlib.contextmanager
    def held_weights(self) -> Iterator[None]:
        """Quantise each weight once for all forward passes inside; no optimizer step may happen there."""
        try:
            for linear in self.bit_linears():
                linear.hold(True)
            yield
        finally:
            for linear in self.bit_linears():
                linear.hold(False)

    @contextlib.contextmanager
    def observed_inputs(self, observe: Callable[[Tensor], None]) -> Iterator[None]:
        """Show `observe` every tensor that is about to be quantised, once where linears share it."""
        linears = list(self.bit_linears())

        def watched(linear: BitLinear) -> Callable[[Tensor], Tensor]:
            def quantize_input(x: Tensor) -> Tensor:
                observe(hadamard(x) if linear.hadamard else x)
                return type(linear).quantize_input(linear, x)

            return quantize_input

        try:
            for linear in linears:
                linear.__dict__["quantize_input"] = watched(linear)
            yield
        finally:
            for linear in linears:
                linear.__dict__.pop("quantize_input", None)

    def forward(
        self,
        ids_BT: Tensor,
        *,
        key_padding_BT: Tensor | None = None,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] after the final norm.

        `segments_BT` numbers the sequences packed into a row: positions restart with each, and none sees another.
        `key_padding_BT` is True where a key is padding, over cached and new tokens, [B, S]; padding on the right
        needs none, for no real token can see it. `positions_BT` counts real tokens from 0 unless given.
        """
        tokens = ids_BT.shape[1]
        past = cache.length if cache is not None else 0
        if past + tokens > self.config.max_position_embeddings:
            raise ValueError(
                f"{past + tokens} positions, but the student was built for {self.config.max_position_embeddings}"
            )
        if positions_BT is None and segments_BT is not None:
            positions_BT = _restarting(segments_BT)
        elif positions_BT is None:
            positions_BT = _positions(ids_BT, past, key_padding_BT)
        hidden_BTD = self.model.embed_tokens(ids_BT)
        rotation = self._rotation(positions_BT, hidden_BTD.dtype)
        mask = _mask(tokens, past, key_padding_BT, ids_BT.device)
        if segments_BT is not None:
            mask = _segment_mask(segments_BT, mask)
        for layer in self.model.layers:
            hidden_BTD = layer(hidden_BTD, rotation, mask, cache)
        if cache is not None:
            cache.advance(tokens)
        out_BTD: Tensor = self.model.norm(hidden_BTD)
        return out_BTD

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Logits [..., V] of any hidden states [..., D]; training uses the fused loss instead."""
        return F.linear(hidden_BTD, self.output_weight)

    def _rotation(self, positions_BT: Tensor, dtype: torch.dtype) -> Rotation:
        half = torch.arange(0, self.config.head_dim, 2, device=positions_BT.device, dtype=torch.float32)
        frequencies_C = 1.0 / (self.config.rope_theta ** (half / self.config.head_dim))
        angles_BTC = positions_BT[..., None].float() * frequencies_C
        angles_B1TC = torch.cat((angles_BTC, angles_BTC), dim=-1).unsqueeze(1)
        return angles_B1TC.cos().to(dtype), angles_B1TC.sin().to(dtype)


def _bit_linears(module: nn.Module) -> Iterator[BitLinear]:
    return (child for child in module.modules() if isinstance(child, BitLinear))


def _rotate(x_BHTC: Tensor, rotation: Rotation) -> Tensor:
    """Rotary embedding in halves: dimension i turns with i + C/2 (Su et al. 2021, in Llama's layout)."""
    cos_B1TC, sin_B1TC = rotation
    first, second = x_BHTC.chunk(2, dim=-1)
    return x_BHTC * cos_B1TC + torch.cat((-second, first), dim=-1) * sin_B1TC


def _positions(ids_BT: Tensor, past: int, key_padding_BS: Tensor | None) -> Tensor:
    tokens = ids_BT.shape[1]
    if key_padding_BS is None:
        return torch.arange(past, past + tokens, device=ids_BT.device).unsqueeze(0)
    return ((~key_padding_BS).long().cumsum(dim=1) - 1).clamp_(min=0)[:, -tokens:]


def _restarting(segments_BT: Tensor) -> Tensor:
    """Positions that count from 0 in every segment."""
    places_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    fresh_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    fresh_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    return places_T - torch.where(fresh_BT, places_T, 0).cummax(dim=1).values


def _segment_mask(segments_BT: Tensor, mask: Tensor | None) -> Tensor:
    """True where a query may look: back, within its own segment, and where `mask` allows it."""
    tokens = segments_BT.shape[1]
    causal_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=segments_BT.device).tril_()
    same_B1TT = (segments_BT[:, :, None] == segments_BT[:, None, :]).logical_and_(causal_TT).unsqueeze(1)
    return same_B1TT if mask is None else same_B1TT & mask


def _mask(tokens: int, past: int, key_padding_BS: Tensor | None, device: torch.device) -> Tensor | None:
    """True where a query may look, broadcastable to [B, H, T, S]; None where SDPA's own causal mask does."""
    if key_padding_BS is None and (past == 0 or tokens == 1):
        return None
    seen_S = torch.arange(past + tokens, device=device)
    queries_T1 = torch.arange(past, past + tokens, device=device).unsqueeze(1)
    mask_TS = seen_S <= queries_T1
    if key_padding_BS is None:
        return mask_TS
    # A padding query still sees itself: a row without any key would be NaN, and NaN spreads by way of 0·NaN.
    return ((mask_TS & ~key_padding_BS[:, None, :]) | (seen_S == queries_T1)).unsqueeze(1)
