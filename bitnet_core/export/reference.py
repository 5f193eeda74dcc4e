"""What an exported student should compute: ours in this process, and ours with the inputs rounded as llama.cpp does.

Shapes: T steps, V vocabulary, D hidden, a leading `...` is any number of token dimensions.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from bitnet_core.model.student import Student

_LEVELS = 127
_INPUT_BLOCKS = {"TQ2_0": 256, "TQ1_0": 256, "Q6_K": 256, "Q2_0": 32, "Q4_0": 32, "Q5_0": 32, "Q8_0": 32}
"""For a product llama.cpp rounds the input to 8 bits, one scale for this many values; with F16 weights to fp16."""


@torch.inference_mode()
def logits(student: Student, ids: Sequence[int], start: int = 0) -> Tensor:
    """Logits [T, V] after each token of `ids` from place `start` on, at the student's present bits."""
    device = student.output_weight.device
    hidden_TD = student(torch.tensor([list(ids)], device=device))[0, start:]
    return student.logits(hidden_TD).float().cpu()


def logprobs(student: Student, ids: Sequence[int], start: int = 0) -> Tensor:
    """As `logits`, as natural logarithms of probabilities."""
    return torch.log_softmax(logits(student, ids, start), dim=-1)


@torch.inference_mode()
def logprobs_as_llamacpp(
    student: Student, ids: Sequence[int], start: int, linear_types: Mapping[str, str], embedding_type: str
) -> Tensor:
    """As `logprobs`, with llama.cpp's rounding of every product's input for these types of weights.

    `linear_types` are those of a layer's linears, by their names in it, such as `mlp.up_proj`.
    Its weights are ours, so what differs from `logprobs` at 8 bits is llama.cpp's activation quantisation alone.
    """
    with _inputs_through(student, {name: rounding(kind) for name, kind in linear_types.items()}):
        hidden_TD = student(torch.tensor([list(ids)]))[0, start:]
    return torch.log_softmax(student.logits(rounding(embedding_type)(hidden_TD)).float(), dim=-1)


def rounding(weight_type: str) -> Callable[[Tensor], Tensor]:
    """How llama.cpp rounds the input [..., I] of a product with weights of this type."""
    block = _INPUT_BLOCKS.get(weight_type)
    return (lambda x: x.half().float()) if block is None else (lambda x: _in_blocks(x, block))


def _in_blocks(x: Tensor, block: int) -> Tensor:
    # A row that blocks don't divide is padded with zeros in the file.
    padded = F.pad(x.float(), (0, -x.shape[-1] % block))
    parts = padded.view(*x.shape[:-1], -1, block)
    step = parts.abs().amax(dim=-1, keepdim=True).clamp_(min=1e-30) / _LEVELS
    return ((parts / step).round_() * step).view(padded.shape)[..., : x.shape[-1]]


@contextlib.contextmanager
def _inputs_through(student: Student, rounded: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    linears = [(layer.get_submodule(name), own) for layer in student.model.layers for name, own in rounded.items()]
    try:
        for linear, own in linears:
            linear.__dict__["quantize_input"] = own
        yield
    finally:
        for linear, _ in linears:
            linear.__dict__.pop("quantize_input", None)
