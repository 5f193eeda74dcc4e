"""Turns a student's residual stream, so that no channel of it stands out.

A trained Llama has a few channels that are many times larger than the others, and quantisation to 4 bits, whose step
the largest value decides, leaves nothing of the others. A rotation spreads them over all channels. What layers
compute stays the same, because a norm's root mean square does not change with it (SliceGPT, arXiv 2401.15024; QuaRot,
arXiv 2404.00456). The student is an ordinary one afterwards: the rotation is in its weights.

Norms' weights go into the matrices that read what they scale. For the last norm there is no such place besides the
head, which is the embedding: so what the student reads first is scaled by that norm's weight as well, and that alone
is not what the source computes.

Shapes: D hidden, V vocabulary.
"""

import math

import torch
from torch import Tensor

from bitnet_core.model.quant import hadamard
from bitnet_core.model.student import Student
from bitnet_core.pretrained.source import EMBEDDING, FINAL_NORM

_READERS = {
    "input_layernorm": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm": ("mlp.gate_proj", "mlp.up_proj"),
}
_WRITERS = ("self_attn.o_proj", "mlp.down_proj")


@torch.no_grad()
def rotate(student: Student) -> None:
    """Turn the residual stream of a student in place."""
    own = dict(student.named_parameters())
    embedding_VD, last = own[EMBEDDING], own[FINAL_NORM]
    mean = last.square().mean().sqrt()
    embedding_VD.copy_(turned(embedding_VD * (last / mean)))
    last.fill_(mean)
    for layer in range(student.config.num_hidden_layers):
        for norm, readers in _READERS.items():
            scale = own[f"model.layers.{layer}.{norm}.weight"]
            for name in readers:
                weight = own[f"model.layers.{layer}.{name}.weight"]
                weight.copy_(turned(weight * scale))
            scale.fill_(1.0)
        for name in _WRITERS:
            weight = own[f"model.layers.{layer}.{name}.weight"]
            weight.copy_(turned(weight.T).T)


def turned(x: Tensor) -> Tensor:
    """x [..., D] times an orthonormal matrix that mixes all D: Walsh-Hadamard in blocks, cosines across blocks."""
    size = x.shape[-1]
    block = size & -size
    blocks = hadamard(x).reshape(*x.shape[:-1], size // block, block)
    return torch.matmul(_cosines(size // block, x).T, blocks).flatten(-2)


def _cosines(size: int, like: Tensor) -> Tensor:
    """The orthonormal matrix of the discrete cosine transform (DCT-II) of this size."""
    places = torch.arange(size, device=like.device, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (places[:, None] + 0.5) * places)
    scaled: Tensor = matrix / matrix.square().sum(dim=0).sqrt()
    return scaled.to(like.dtype)
