"""The student: Llama with two sub-norms and ternary linears. It knows no losses, traces or files.

What differs from Llama: all seven linears of a layer are `BitLinear` (ternary weights, 8- or 4-bit inputs);
`attn_sub_norm` comes before `o_proj` and `ffn_sub_norm` before `down_proj`; the output head is the embedding.
Modules are named as in transformers' `BitNetForCausalLM`, so the two can load each other's state dict unchanged.

Shapes: B sequences, T new tokens, S = cached + new tokens, D hidden, V vocabulary, H heads, C head size.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bitnet_core.model.cache import KVCache, LayerMemory, WholeCache
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.integers import Codes
from bitnet_core.model.layers import BitLinear, Layer, RMSNorm, Rotation, bit_linears, hold_all
from bitnet_core.model.quant import hadamard, levels


class Decoder(nn.Module):
    """Embedding, layers and final norm; `model` in the state dict, as in transformers."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config, index) for index in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)


class Student(nn.Module):
    """A causal language model with ternary weights: `student.logits(student(ids_BT))` are its logits [B, T, V].

    Its parameters are fp32 masters, quantised in each forward pass; gradients pass straight through. An embedding
    that is kept in a type of llama.cpp (`embedding_type`) has no gradient. A new student is at 8 activation bits.
    Autocast, where it is used, wraps the forward pass.
    """

    recompute = False
    """Whether all layers but the last keep only their input for the backward pass, which computes the rest again.

    The last one comes first there, before anything else is freed: computing it again would save nothing.
    """

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self._quantized_share = 1.0
        self.model = Decoder(config)
        self.output_weight.requires_grad_(not config.embedding_type)
        self.reset_parameters()

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Normal(0, `initializer_range`), over sqrt(2L) for o and down: the residual stream adds up 2L of them."""
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
        """The embedding [V, D], which is also the head."""
        return self.model.embed_tokens.weight

    @property
    def activation_bits(self) -> int | None:
        """Bits of the first layer, which flips first: 8, 4, or None (full precision). Setting it sets all layers."""
        return self.layer_bits[0]

    @activation_bits.setter
    def activation_bits(self, bits: int | None) -> None:
        if bits is not None:
            levels(bits)
        self.set_layer_bits([bits] * len(self.model.layers))

    @property
    def layer_bits(self) -> tuple[int | None, ...]:
        return tuple(next(bit_linears(layer)).activation_bits for layer in self.model.layers)

    def set_layer_bits(self, bits_L: Sequence[int | None]) -> None:
        """Set the activation bits of each layer, as a ramped flip does. The A4 policy may keep some inputs wider."""
        for layer, bits in zip(self.model.layers, bits_L, strict=True):
            for name, linear in layer.named_modules():
                if isinstance(linear, BitLinear):
                    linear.activation_bits = self.config.input_bits(name, bits)

    @property
    def quantized_share(self) -> float:
        """λ: weights and inputs are λ·x_q + (1 − λ)·x. It is 1 unless a training ramps it up (`training/ramp.py`).

        Below 1 the student is not ternary. It is no part of the state dict.
        """
        return self._quantized_share

    @quantized_share.setter
    def quantized_share(self, share: float) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"a quantised share of {share}; it is from 0 to 1")
        self._quantized_share = share
        shared = None
        if share < 1:
            # One tensor for all, filled anew: for each new number a compiled student would be compiled again.
            shared = next(self.bit_linears()).quantized_share
            if shared is None or shared.device != self.output_weight.device:
                shared = torch.empty((), device=self.output_weight.device)
            shared.fill_(share)
        for linear in self.bit_linears():
            linear.quantized_share = shared

    def bit_linears(self) -> Iterator[BitLinear]:
        return bit_linears(self)

    @contextlib.contextmanager
    def held_weights(self) -> Iterator[None]:
        """Quantise each weight once for all forward passes inside the block. No weight may change there."""
        try:
            hold_all(self.model, True)
            yield
        finally:
            hold_all(self.model, False)

    @contextlib.contextmanager
    def observed_inputs(self, observe: Callable[[Tensor], None], *, at_bits: int | None = None) -> Iterator[None]:
        """Call `observe` with every tensor before it is quantised, once where linears share it.

        With `at_bits`, only those whose inputs the A4 policy gives that width in a layer that has it.
        """
        linears = [
            linear
            for name, linear in self.named_modules()
            if isinstance(linear, BitLinear) and self.config.input_bits(name, at_bits) == at_bits
        ]

        def watched(linear: BitLinear) -> Callable[[Tensor], Tensor | Codes]:
            def quantize_input(x: Tensor) -> Tensor | Codes:
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
        key_padding_BS: Tensor | None = None,
        positions_BT: Tensor | None = None,
        segments_BT: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states [B, T, D] of the token ids, after the final norm.

        `segments_BT` numbers the sequences packed into a row: positions restart with each, and none sees another.
        `key_padding_BS` is True where a key is padding, over cached and new tokens; padding on the right needs no
        mask, because no real token can see it. `positions_BT` counts real tokens from 0 unless given. With a `cache`,
        the ids follow the tokens that it holds. Raises ValueError past the last position.
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
            positions_BT = _positions(ids_BT, past, key_padding_BS)
        mask = _mask(tokens, past, key_padding_BS, ids_BT.device)
        if segments_BT is not None:
            mask = _segment_mask(segments_BT, mask)
        out_BTD = self._through_layers(ids_BT, positions_BT, mask, cache)
        if cache is not None:
            cache.advance(tokens)
        return out_BTD

    def one_more(self, ids_B1: Tensor, cache: WholeCache) -> Tensor:
        """Hidden states [B, 1, D] of one more token for each row, after the final norm.

        What it computes does not depend on how many tokens were read, except through tensors: it can be recorded
        once and replayed for every token.
        """
        out_B1D = self._through_layers(ids_B1, cache.positions_B1, cache.mask_B11S, cache)
        cache.advance()
        return out_B1D

    def _through_layers(
        self, ids_BT: Tensor, positions_BT: Tensor, mask: Tensor | None, cache: LayerMemory | None
    ) -> Tensor:
        hidden_BTD = self.model.embed_tokens(ids_BT)
        rotation = self.rotation(positions_BT, hidden_BTD.dtype)
        last = len(self.model.layers) - 1
        for place, layer in enumerate(self.model.layers):
            inputs = (hidden_BTD, rotation, mask, cache)
            if self.recompute and place < last and torch.is_grad_enabled():  # nothing in a layer is random
                hidden_BTD = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
            else:
                hidden_BTD = layer(*inputs)
        out_BTD: Tensor = self.model.norm(hidden_BTD)
        return out_BTD

    def logits(self, hidden_BTD: Tensor) -> Tensor:
        """Logits [..., V] of hidden states [..., D]. Training uses the fused loss instead."""
        return F.linear(hidden_BTD, self.output_weight)

    def rotation(self, positions_BT: Tensor, dtype: torch.dtype) -> Rotation:
        """The rotary embedding of these positions, as layers take it."""
        half = torch.arange(0, self.config.head_dim, 2, device=positions_BT.device, dtype=torch.float32)
        frequencies_C = 1.0 / (self.config.rope_theta ** (half / self.config.head_dim))
        angles_BTC = positions_BT[..., None].float() * frequencies_C
        angles_B1TC = torch.cat((angles_BTC, angles_BTC), dim=-1).unsqueeze(1)
        return angles_B1TC.cos().to(dtype), angles_B1TC.sin().to(dtype)


def _positions(ids_BT: Tensor, past: int, key_padding_BS: Tensor | None) -> Tensor:
    tokens = ids_BT.shape[1]
    if key_padding_BS is None:
        return torch.arange(past, past + tokens, device=ids_BT.device).unsqueeze(0)
    return ((~key_padding_BS).long().cumsum(dim=1) - 1).clamp_(min=0)[:, -tokens:]


def _restarting(segments_BT: Tensor) -> Tensor:
    """Positions that restart at 0 in every segment."""
    places_T = torch.arange(segments_BT.shape[1], device=segments_BT.device)
    fresh_BT = torch.ones_like(segments_BT, dtype=torch.bool)
    fresh_BT[:, 1:] = segments_BT[:, 1:] != segments_BT[:, :-1]
    return places_T - torch.where(fresh_BT, places_T, 0).cummax(dim=1).values


def _segment_mask(segments_BT: Tensor, mask: Tensor | None) -> Tensor:
    """True where a query may look: backwards, within its own segment, and where `mask` allows it."""
    tokens = segments_BT.shape[1]
    causal_TT = torch.ones(tokens, tokens, dtype=torch.bool, device=segments_BT.device).tril_()
    same_B1TT = (segments_BT[:, :, None] == segments_BT[:, None, :]).logical_and_(causal_TT).unsqueeze(1)
    return same_B1TT if mask is None else same_B1TT & mask


def _mask(tokens: int, past: int, key_padding_BS: Tensor | None, device: torch.device) -> Tensor | None:
    """True where a query may look, broadcastable to [B, H, T, S]; None where SDPA's own causal mask is enough."""
    if key_padding_BS is None and (past == 0 or tokens == 1):
        return None
    seen_S = torch.arange(past + tokens, device=device)
    queries_T1 = torch.arange(past, past + tokens, device=device).unsqueeze(1)
    mask_TS = seen_S <= queries_T1
    if key_padding_BS is None:
        return mask_TS
    # A padding query sees itself: a row without any key would be NaN, which would spread through 0·NaN.
    return ((mask_TS & ~key_padding_BS[:, None, :]) | (seen_S == queries_T1)).unsqueeze(1)
