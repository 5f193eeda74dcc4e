"""Makes a student's residual stream larger, so that training changes its embedding slowly.

AdamW moves each number by about the learning rate in a step, however large the number is. A trained embedding is the
most valuable thing that a source gives, and is the whole of what the student says: at its own size (a root mean
square of 0.14 in SmolLM2) training on little text soon overwrites it. Numbers that are larger change less for their
size. What the student computes stays the same: norms divide the stream by its size, the sub-norms make what is added
to it as much larger, and the last norm's weight becomes smaller.
"""

import math

import torch

from bitnet_core.model.student import Student
from bitnet_core.pretrained.calibrate import sub_norms


@torch.no_grad()
def enlarge(student: Student) -> float:
    """Scale the residual stream in place, to where the embedding's root mean square is nearest to 1; the factor.

    It is a power of two, which changes no bit of what layers compute; only the norms' epsilon counts for less.
    """
    embedding_VD = student.model.embed_tokens.weight
    factor = 2.0 ** -round(math.log2(float(embedding_VD.square().mean().sqrt())))
    embedding_VD.mul_(factor)
    student.model.norm.weight.div_(factor)
    for layer in student.model.layers:
        for owner, name in sub_norms(layer):
            getattr(owner, name).weight.mul_(factor)
    return factor
