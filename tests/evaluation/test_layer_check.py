"""The check of one layer accepts a pass at its own width and at no other, and sees what is wrong between linears."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.passes import forward
from bitnet_core.evaluation.random_student import build
from bitnet_core.model import integers, layers, packing
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import PackedBitLinear
from bitnet_core.model.quant import quantize_activation
from bitnet_core.model.student import Student

IDS = torch.arange(24).view(2, 12)
SHAPE = StudentConfig(
    vocab_size=100,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=32,
)


@pytest.fixture
def student() -> Student:
    return build(SHAPE, 0, "cpu")


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [1, 4])
def test_a_pass_at_its_width_is_accepted(bits: int, seed: int, groups: int) -> None:
    student = build(dataclasses.replace(SHAPE, num_key_value_heads=groups), seed, "cpu")
    # Norm weights other than 1, so that a norm without its weight would show.
    for name, parameter in student.named_parameters():
        if "norm" in name:
            parameter.data.uniform_(0.5, 2, generator=torch.Generator().manual_seed(seed))
    check = forward(student, IDS, bits).check
    assert check.error < 0.1 * check.one_bit_less
    assert check.one_bit_less > 0.01
    assert check.other_steps < 1e-5


@pytest.mark.parametrize(("claimed", "real"), [(4, 3), (4, 5), (4, 8), (8, 7), (8, 4)])
def test_a_pass_at_another_width_is_not(
    student: Student, monkeypatch: pytest.MonkeyPatch, claimed: int, real: int
) -> None:
    codes_of = integers.codes_of
    monkeypatch.setattr(packing, "quantize_activation", lambda x, _bits: quantize_activation(x, real))
    monkeypatch.setattr(integers, "codes_of", lambda x, _bits: codes_of(x, real))
    with pytest.raises(BitnetError, match=f"A{claimed}.*independent"):
        forward(student, IDS, claimed)


def test_one_linear_of_seven_is_enough(student: Student) -> None:
    down = student.model.layers[-1].mlp.down_proj

    class Coarse(PackedBitLinear):
        def quantize_input(self, x: Tensor) -> Tensor:
            return quantize_activation(x, 3)

    down.__class__ = Coarse
    with pytest.raises(BitnetError, match="independent"):
        forward(student, IDS, 4)


def _unrotated(x: Tensor, _rotation: object) -> Tensor:
    return x


def _slightly_off(x: Tensor, eps: float) -> Tensor:
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * 1.002


@pytest.mark.parametrize(
    ("place", "name", "wrong"),
    [(layers, "rotate", _unrotated), (layers, "_inverse_rms", _slightly_off)],
    ids=["positions", "norm"],
)
def test_what_lies_between_the_linears_counts(
    student: Student, monkeypatch: pytest.MonkeyPatch, place: object, name: str, wrong: Callable[..., Tensor]
) -> None:
    monkeypatch.setattr(place, name, wrong)
    with pytest.raises(BitnetError, match="independent"):
        forward(student, IDS, 8)
