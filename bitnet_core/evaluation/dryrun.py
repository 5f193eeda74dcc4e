"""A student of any size from random ternary weights, built packed layer by layer, and its forward passes measured.

What is shown is that the shape runs and what it takes: nothing is learned, and the weights are those of no model.
The whole model never exists in fp32 or bf16: random *bytes* become valid codes directly. It knows no settings.

Shapes: B sequences, T tokens, D hidden, V vocabulary, R packed rows, I in features.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.memory import peak_rss
from bitnet_core.model.config import SIZE_MULTIPLE, StudentConfig
from bitnet_core.model.packing import assemble, packed_rows
from bitnet_core.model.student import Student

# The low and the high bit of every code in a 64-bit word; the second as the signed number with these bits.
_LOW_BITS = 0x5555555555555555
_HIGH_BITS = ~_LOW_BITS
# Large temporaries between tensors that stay would leave holes in the heap. Pieces this small are also below what
# torch spreads over threads, which on a busy machine wait for each other far longer than the work takes.
_PIECE_WORDS = 1 << 14
_LOGIT_BYTES = 32 << 20
_SCRATCH_BYTES = 96 << 20  # one unpacked piece, matmul buffers, random bytes of one matrix
Told = Callable[[int], None]


def feed_forward_size(hidden_size: int) -> int:
    """8/3 of the hidden size rounded up to a multiple of 256, as LLaMA does: 11008 for 4096."""
    return -(-8 * hidden_size // (3 * SIZE_MULTIPLE)) * SIZE_MULTIPLE


def layer_bytes(config: StudentConfig) -> int:
    """Packed linears with their scales, and the fp32 norms of one layer."""
    linears = sum(packed_rows(rows) * columns + 4 for rows, columns in config.linear_shapes().values())
    return linears + 4 * (3 * config.hidden_size + config.intermediate_size)


def working_bytes(config: StudentConfig, tokens: int) -> int:
    """What a forward pass needs beside the weights, generously: activations, a piece of logits, scratch."""
    activations = 4 * tokens * (12 * config.hidden_size + 6 * config.intermediate_size)
    return activations + 2 * _LOGIT_BYTES + _SCRATCH_BYTES


def needed_bytes(config: StudentConfig, tokens: int) -> int:
    """Everything above the program itself."""
    fixed = 4 * config.hidden_size * (config.vocab_size + 1) + working_bytes(config, tokens)
    return fixed + config.num_hidden_layers * layer_bytes(config)


def fit(config: StudentConfig, tokens: int, room: int) -> StudentConfig | None:
    """The same shape with as many layers as `room` bytes hold; None when not even one fits."""
    layers = config.num_hidden_layers
    if (lacking := needed_bytes(config, tokens) - room) > 0:
        layers -= -(-lacking // layer_bytes(config))
    return replace(config, num_hidden_layers=layers) if layers >= 1 else None


def random_codes(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """Packed bytes [R, I] of random codes: 0 with probability 1/2, -1 and 1 with 1/4 each.

    Of two random bits per code the low one decides, and the high one counts only where the low one is 0, so
    the pattern 3, which is no code, can't occur.
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
    config: StudentConfig, seed: int, device: torch.device | str, on_layer: Told = lambda _done: None
) -> Student:
    """A packed student of random weights with the scales of a fresh one. The same seed gives the same student
    on every device. `on_layer` is told how many layers are there, and may raise."""
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


@dataclass(frozen=True)
class Pass:
    """One forward pass, logits included. `peak_bytes` is of this process, or of the GPU where there is one."""

    bits: int
    seconds: float
    peak_bytes: int
    peak_how: str
    hidden_BTD: Tensor
    top1_BT: Tensor


def forward(student: Student, ids_BT: Tensor, bits: int, on_layer: Told = lambda _done: None) -> Pass:
    """Run and measure; BitnetError if anything that comes out is not finite. `on_layer` may raise."""
    device = student.output_weight.device
    student.activation_bits = bits
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.synchronize(device)
    with peak_rss() as peak, torch.inference_mode(), _told_of_layers(student, on_layer):
        started = time.perf_counter()
        hidden_BTD = student(ids_BT)
        finite, top1 = bool(hidden_BTD.isfinite().all()), []
        rows_ND = hidden_BTD.flatten(0, 1)
        for rows_nD in rows_ND.split(max(1, _LOGIT_BYTES // (4 * student.config.vocab_size))):
            logits_nV = student.logits(rows_nD)
            finite &= bool(logits_nV.isfinite().all())
            top1.append(logits_nV.argmax(dim=-1))
        seconds = time.perf_counter() - started
    if not finite:
        raise BitnetError(f"The forward pass at A{bits} gave values that are not finite; report this shape as a bug.")
    return Pass(
        bits=bits,
        seconds=seconds,
        peak_bytes=torch.cuda.max_memory_allocated(device) if cuda else peak.bytes,
        peak_how="torch's allocator on the GPU" if cuda else peak.how,
        hidden_BTD=hidden_BTD,
        top1_BT=torch.cat(top1).view(ids_BT.shape),
    )


class _told_of_layers:
    """Count layers while the block runs, by hooks: the student's forward pass stays the one that training uses."""

    def __init__(self, student: Student, on_layer: Told) -> None:
        self._student, self._on_layer = student, on_layer

    def __enter__(self) -> None:
        self._handles = [
            layer.register_forward_hook(lambda *_, done=place + 1: self._on_layer(done))
            for place, layer in enumerate(self._student.model.layers)
        ]

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()


@dataclass(frozen=True)
class Difference:
    """How far two passes are apart: relative distance of the hidden states, share of other top-1 tokens."""

    relative: float
    other_top1: float


def compare(first: Pass, second: Pass) -> Difference:
    gap = (first.hidden_BTD - second.hidden_BTD).norm() / first.hidden_BTD.norm()
    return Difference(float(gap), float((first.top1_BT != second.top1_BT).double().mean()))


def components(student: Student) -> Iterator[tuple[str, int]]:
    """Exact bytes by component: the embedding, each of the seven linears over all layers, the norms."""
    sums: dict[str, int] = {}
    for name, tensor in student.state_dict().items():
        parts = name.split(".")
        part = "embedding" if "embed_tokens" in name else "norms" if "norm" in name else parts[-2]
        sums[part] = sums.get(part, 0) + tensor.numel() * tensor.element_size()
    yield from sums.items()
