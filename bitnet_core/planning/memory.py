"""Memory of a training and of the finished student, from shapes alone. docs/planning.md derives the formulas.

They count what this code allocates: what autograd keeps is compared with them tensor by tensor in the tests, and
`benchmarks/bench_plan.py` compares the sum with the peak of real trainings.

Letters: V vocabulary, D hidden, F feed-forward, G·C key/value width, H heads, L layers, R rows, T positions of a row,
K candidates.
"""

from dataclasses import dataclass, replace
from typing import Any

from bitnet_core.model.chunks import positions_at_a_time
from bitnet_core.model.config import StudentConfig
from bitnet_core.training.heldout_size import MOST_TOKENS

_WIDE, _NARROW = 4, 2
"""Bytes of fp32, and of bf16 and fp16."""


@dataclass(frozen=True)
class Batch:
    """What one forward pass of training reads. `packed` rows carry a mask; `accumulate` passes make a step."""

    rows: int
    length: int
    accumulate: int = 1
    packed: bool = True
    candidates: int = 20

    @property
    def positions(self) -> int:
        return self.rows * self.length


@dataclass(frozen=True)
class Beside:
    """A teacher in the same memory that is asked while training: its shape, and the bytes of one of its numbers."""

    parameters: int
    hidden_size: int
    number: int


def training_bytes(
    config: StudentConfig,
    batch: Batch,
    *,
    narrow: bool,
    device_type: str,
    devices: int = 1,
    quantize: bool = True,
    recompute: bool = False,
    teacher: Beside | None = None,
    source: int = 0,
) -> dict[str, int]:
    """Bytes of one device by part, and their `peak`; without the program itself.

    `narrow` says that autocast computes in 2 bytes; `quantize` is False for a full-precision twin; with `recompute`
    the backward pass computes all layers but the last again, one at a time. With several `devices`, weights,
    gradients and AdamW are cut into as many parts (FSDP, ZeRO-3), and one layer at a time is whole; each device has
    its own batch, and the whole of a `teacher` and of a source of `source` bytes.
    """
    trained, linears = config.trained_parameters(), _linear_weights(config)
    embedding = config.vocab_size * config.hidden_size
    weights = _share(_WIDE * config.parameters(), devices)
    adamw = _share(2 * _WIDE * trained, devices)
    gradients = _share(_WIDE * trained, devices)
    layers, held = config.num_hidden_layers, batch.accumulate > 1
    recompute = recompute and layers > 1
    kept = linears // layers if recompute else linears
    quantized = _quantized_bytes(kept, linears if held else 0, narrow=narrow) if quantize else 0
    gathered = 0
    if devices > 1:  # the layer at work and the next one, or the embedding
        layer = linears // layers
        quantized, gathered = _share(quantized, devices), _WIDE * max(2 * layer, embedding)
    activations = activation_bytes(config, batch, narrow=narrow, recompute=recompute)
    loss = _loss_bytes(config, batch, narrow=narrow, device_type=device_type)
    beside = _beside_bytes(config, batch, teacher, narrow=narrow, device_type=device_type) if teacher else {}
    # Forward and backward pass have their peaks at their ends: while the loss is computed, everything that the
    # backward pass needs is there; when it ends, all gradients are, a trained embedding's from both of its uses.
    again = 0 if config.embedding_type else _share(_WIDE * embedding, devices)
    forward_end = quantized + activations + loss + beside.get("teacher's logits", 0)
    layer_again = 0
    if recompute:  # the first layer, at last, when the gradients of all others are there
        own_gradients = 0 if held else _share(_WIDE * linears // layers, devices)
        layer_again = quantized + _layer_bytes(config, batch, narrow=narrow) - own_gradients
    backward_end = gradients + max(again, layer_again)
    if held:
        forward_end += gradients
        backward_end += again
    watch = _two_bit_bytes(config)
    return {
        "weights": weights,
        "adamw": adamw,
        "gradients": gradients,
        "quantized weights": quantized,
        "activations": activations,
        "loss": loss,
        "whole layer": gathered,
        "two-bit copy": watch,
        **beside,
        **({"source's weights": source} if source else {}),
        "peak": weights + adamw + max(forward_end, backward_end) + gathered + watch + _kept(beside) + source,
    }


def _beside_bytes(
    config: StudentConfig, batch: Batch, teacher: Beside, *, narrow: bool, device_type: str
) -> dict[str, int]:
    """A teacher's weights, what it says of a batch and of the held-out side, and a chunk of its logits.

    The loss holds that chunk and what it computes from it, four times as much. Its forward pass is over before the
    student's begins, whose activations take more.
    """
    states = teacher.number * teacher.hidden_size
    chunk = _chunk(config, batch, narrow=narrow, device_type=device_type)
    return {
        "teacher's weights": teacher.number * teacher.parameters,
        "teacher's states": states * (batch.positions + MOST_TOKENS),
        "teacher's logits": 4 * _WIDE * chunk * config.vocab_size,
    }


def _kept(beside: dict[str, int]) -> int:
    """What of a teacher is there all the time."""
    return beside.get("teacher's weights", 0) + beside.get("teacher's states", 0)


def _chunk(config: StudentConfig, batch: Batch, *, narrow: bool, device_type: str) -> int:
    """How many positions have logits at a time."""
    return min(batch.positions, positions_at_a_time(config.vocab_size, device_type, 2 if narrow else 1))


def _share(total: int, devices: int) -> int:
    return -(-total // devices)


def _linear_weights(config: StudentConfig) -> int:
    return config.num_hidden_layers * sum(rows * columns for rows, columns in config.linear_shapes().values())


def _quantized_bytes(kept: int, held: int, *, narrow: bool) -> int:
    """The quantised weights that autograd has `kept` for the backward pass, and those `held` over several in fp32."""
    return _NARROW * kept + _WIDE * held if narrow else _WIDE * max(kept, held)


def activation_bytes(config: StudentConfig, batch: Batch, *, narrow: bool, recompute: bool = False) -> int:
    """What autograd keeps of a forward pass up to the final norm, without weights.

    With `recompute`, all layers but the last keep the residual stream before them and share one mask of bools.
    And the ids, for the gradient of a trained embedding.
    """
    layer, layers, positions = _layer_bytes(config, batch, narrow=narrow), config.num_hidden_layers, batch.positions
    kept = layers * layer
    if recompute and layers > 1:
        mask = batch.length if batch.packed else 0
        kept = layer + ((layers - 1) * _WIDE * config.hidden_size + mask) * positions
    rotated = positions if batch.packed else batch.length
    ids = 0 if config.embedding_type else 8 * positions
    around = _WIDE * (config.hidden_size + 1) * positions + ids + 2 * _WIDE * config.head_dim * rotated
    return kept + around


def _layer_bytes(config: StudentConfig, batch: Batch, *, narrow: bool) -> int:
    """What autograd keeps of one layer, without weights.

    For a position: the residual stream before both norms and 1/rms of all four (fp32); the quantised
    inputs, once for linears that share them, or once for each under autocast, which converts them again and again;
    q, k, v and their mix; gate, up, their product and its quantised form; the mask, as numbers; LSE of each head.
    """
    hidden, ffn = config.hidden_size, config.intermediate_size
    kv = config.num_key_value_heads * config.head_dim
    number = _NARROW if narrow else _WIDE
    inputs = 6 if narrow else 3
    stream = _WIDE * (2 * hidden + 4)
    attention = number * ((inputs + 2) * hidden + 2 * kv) + _WIDE * config.num_attention_heads
    mask = number * batch.length if batch.packed else 0
    feed_forward = number * 4 * ffn
    return (stream + attention + mask + feed_forward) * batch.positions


def _loss_bytes(config: StudentConfig, batch: Batch, *, narrow: bool, device_type: str) -> int:
    """The fused loss: gradients of a trained head and of the hidden states, one chunk of logits, the targets.

    Narrow, the head and a chunk's share of its gradient are there once more.
    """
    vocabulary, hidden, positions = config.vocab_size, config.hidden_size, batch.positions
    chunk = _chunk(config, batch, narrow=narrow, device_type=device_type)
    trained = not config.embedding_type
    head = (_WIDE * trained + (_NARROW * (1 + trained) if narrow else 0)) * vocabulary * hidden
    states = (2 * _WIDE + (_NARROW if narrow else 0)) * positions * hidden
    logits = (_WIDE + (_NARROW if narrow else 0)) * chunk * vocabulary
    targets = positions * (12 * batch.candidates + 14)
    return head + states + logits + targets


# -- the finished student --------------------------------------------------------------------------------------------


def packed_bytes(config: StudentConfig) -> int:
    """The packed student in this program: 2 bits a weight and a scale, embedding and norms in fp32. Exact."""
    norms = 3 * config.hidden_size + config.intermediate_size
    layers = _two_bit_bytes(config) + config.num_hidden_layers * _WIDE * (norms + len(config.linear_shapes()))
    return layers + _WIDE * config.hidden_size * (config.vocab_size + 1)


def _two_bit_bytes(config: StudentConfig) -> int:
    """The codes of all linears, four rows to a byte."""
    return config.num_hidden_layers * sum(
        -(-rows // 4) * columns for rows, columns in config.linear_shapes().values()
    )


def kv_cache_bytes(config: StudentConfig, context: int, bytes_a_number: int = _NARROW) -> int:
    """Keys and values of one sequence of `context` tokens: fp16 in llama.cpp, 4 bytes a number in this program."""
    kv = config.num_key_value_heads * config.head_dim
    return 2 * config.num_hidden_layers * kv * context * bytes_a_number


def checkpoint_bytes(config: StudentConfig) -> int:
    """One checkpoint: fp32 weights, both moments of AdamW for what is trained, and the two-bit copy."""
    return _WIDE * (config.parameters() + 2 * config.trained_parameters()) + _two_bit_bytes(config)


def made_bytes(config: StudentConfig) -> int:
    """What is kept of a start that is made: fp32 weights of all but the embedding."""
    return _WIDE * (config.parameters() - config.vocab_size * config.hidden_size)


def largest_batch(config: StudentConfig, batch: Batch, room: int, **options: Any) -> int:
    """The most rows of a batch that fit into `room` bytes of one device; 0 if not even one does.

    `options` are those of `training_bytes`.
    """

    def fits(rows: int) -> bool:
        return training_bytes(config, replace(batch, rows=rows), **options)["peak"] <= room

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
