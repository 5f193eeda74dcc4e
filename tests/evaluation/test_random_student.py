"""A student of random weights: valid codes, nothing in fp32, two widths that differ, exact sizes."""

import dataclasses
import math

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.memory import peak_rss
from bitnet_core.evaluation.passes import compare, forward
from bitnet_core.evaluation.random_student import (
    build,
    component_bytes,
    feed_forward_size,
    fit,
    layer_bytes,
    needed_bytes,
    random_codes,
)
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import unpack, weight_bytes
from bitnet_core.process import rss_bytes

IDS = torch.arange(16).view(2, 8)


@pytest.fixture
def shape() -> StudentConfig:
    return StudentConfig(
        vocab_size=500,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )


def test_random_bytes_are_codes() -> None:
    packed = random_codes(1001, 1203, torch.Generator().manual_seed(1))
    fields = [(packed >> shift) & 3 for shift in (0, 2, 4, 6)]
    assert max(int(field.max()) for field in fields) == 2, "3 is not a code"
    codes = unpack(packed, 1001)
    shares = [float((codes == value).double().mean()) for value in (-1, 0, 1)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.002)
    # No pattern runs through rows or columns.
    spread = math.sqrt(0.5)
    assert codes.double().mean(0).abs().max() < 6 * spread / math.sqrt(1001)
    assert codes.double().mean(1).abs().max() < 6 * spread / math.sqrt(1203)


def test_a_seed_decides_the_student(shape: StudentConfig) -> None:
    first, again, other = (build(shape, seed, "cpu").state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first if name.endswith("packed"))


def test_no_tensor_of_a_layer_is_wider_than_two_bits(shape: StudentConfig) -> None:
    student = build(shape, 0, "cpu")
    sizes = component_bytes(student)
    linears = sum(rows * columns for rows, columns in shape.linear_shapes().values())
    norms = 3 * 256 + 768
    names = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert sum(sizes[name] for name in names) == 3 * (linears // 4 + 7 * 4)
    assert sizes["norms"] == 4 * (3 * norms + 256)
    assert sum(sizes.values()) == weight_bytes(student)["total"]
    assert 3 * layer_bytes(shape) == 3 * (linears // 4 + 7 * 4 + 4 * norms)


def test_both_widths_run_and_differ(shape: StudentConfig) -> None:
    student = build(shape, 0, "cpu")
    layers: list[int] = []
    at_8, at_4 = forward(student, IDS, 8, layers.append), forward(student, IDS, 4)
    assert layers == [1, 2, 3]
    assert at_8.hidden_BTD.shape == (2, 8, 256)
    assert compare(at_8, forward(student, IDS, 8)).relative == 0
    difference = compare(at_8, at_4)
    assert 0.01 < difference.relative < 1.5
    assert not student.model.layers[0]._forward_hooks, "hooks stay for one pass only"


def test_values_that_are_not_finite_raise(shape: StudentConfig) -> None:
    student = build(shape, 0, "cpu")
    student.model.norm.weight[0] = math.inf
    with pytest.raises(BitnetError, match="not finite"):
        forward(student, IDS, 8)


def test_a_7b_shape_fits_into_four_gigabytes_on_paper() -> None:
    shape = StudentConfig(32_000, 4096, feed_forward_size(4096), 32, 32, 32, 2048)
    assert shape.intermediate_size == 11008
    assert shape.parameters() == pytest.approx(6.6e9, rel=0.01)
    assert needed_bytes(shape, 64) < 2.6e9


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_fit_takes_as_many_layers_as_there_is_room_for(shape: StudentConfig, layers: int) -> None:
    target = dataclasses.replace(shape, num_hidden_layers=layers)
    exact = needed_bytes(target, 16)
    assert fit(shape, 16, exact) == target
    smaller = fit(shape, 16, exact - 1)
    assert smaller == (dataclasses.replace(shape, num_hidden_layers=layers - 1) if layers > 1 else None)


def test_building_takes_little_more_than_the_student() -> None:
    shape = StudentConfig(1000, 1024, 2816, 40, 8, 8, 32)
    # What torch imports on the way does not belong to the student, so a small one is built first.
    build(StudentConfig(1000, 1024, 2816, 1, 8, 8, 32), 0, "cpu")
    before = rss_bytes()
    with peak_rss() as peak:
        student = build(shape, 0, "cpu")
    total = sum(component_bytes(student).values())
    assert total > 100e6
    assert peak.bytes - before < total * 1.15 + (16 << 20)
