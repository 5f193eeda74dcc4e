"""The quantisers against a plain twin, and the properties that packed formats rely on."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitnet_core.model.quant import (
    hadamard,
    levels,
    quantize_activation,
    quantize_activation_ste,
    quantize_weight,
    quantize_weight_ste,
    ternarize,
)


def twin_activation(x: np.ndarray, bits: int) -> np.ndarray:
    """One token at a time, in float64 arithmetic on the values as given."""
    q = 2 ** (bits - 1) - 1
    out = np.empty_like(x)
    for row in range(x.shape[0]):
        scale = max(float(np.abs(x[row]).max()), 1e-5) / q
        out[row] = np.clip(np.round(x[row] / scale), -q - 1, q) * scale
    return out


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from([8, 4]), st.floats(-4, 4), st.integers(1, 5))
def test_activations_equal_the_twin_within_their_grid(seed: int, bits: int, log_scale: float, rows: int) -> None:
    x = np.random.default_rng(seed).normal(size=(rows, 64)) * 10**log_scale
    got = quantize_activation(torch.from_numpy(x), bits).numpy()
    np.testing.assert_allclose(got, twin_activation(x, bits), rtol=1e-9, atol=0)
    step = np.abs(x).max(axis=1, keepdims=True).clip(1e-5) / levels(bits)
    assert (np.abs(got - x) <= step * (0.5 + 1e-9)).all()
    for row in got:
        assert len(np.unique(row)) <= 2**bits


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_have_at_most_three_values_and_one_scale(dtype: torch.dtype) -> None:
    weight = torch.randn(96, 160).to(dtype) * 0.02
    quantized = quantize_weight(weight)
    assert quantized.dtype == dtype
    assert len(quantized.unique()) == 3
    codes, scale = ternarize(weight)
    assert codes.dtype == torch.int8
    assert codes.unique().tolist() == [-1, 0, 1]
    assert torch.equal((codes * scale).to(dtype), quantized)
    wide = weight.double()
    torch.testing.assert_close(scale.double(), wide.abs().mean(), rtol=1e-6, atol=0)
    expected = (wide / wide.abs().mean()).round().clamp(-1, 1)
    assert (codes.double() - expected).abs().mean() < 1e-3  # values on a boundary may differ in the last bit


def test_a_zero_tensor_stays_zero() -> None:
    assert torch.equal(quantize_weight(torch.zeros(8, 8)), torch.zeros(8, 8))
    assert torch.equal(quantize_activation(torch.zeros(3, 8), 8), torch.zeros(3, 8))


def test_tokens_have_scales_of_their_own() -> None:
    x = torch.randn(4, 64)
    alone = torch.cat([quantize_activation(row[None], 4) for row in x])
    assert torch.equal(quantize_activation(x, 4), alone)
    louder = x * torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None]
    assert torch.equal(quantize_activation(louder, 4) / torch.tensor([1.0, 2.0, 4.0, 8.0])[:, None], alone)


@pytest.mark.parametrize("bits", [8, 4])
def test_gradients_go_straight_through(bits: int) -> None:
    x = torch.randn(5, 32, requires_grad=True)
    weight = torch.randn(16, 32, requires_grad=True)
    upstream_x, upstream_w = torch.randn(5, 32), torch.randn(16, 32)
    quantize_activation_ste(x, bits).backward(upstream_x)
    quantize_weight_ste(weight).backward(upstream_w)
    assert torch.equal(x.grad, upstream_x)
    assert torch.equal(weight.grad, upstream_w)


def test_undefined_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="16 bits"):
        levels(16)


def sylvester(size: int) -> torch.Tensor:
    """The Walsh-Hadamard matrix by its recursion."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix / size**0.5


@pytest.mark.parametrize(("width", "block"), [(1, 1), (2, 2), (8, 8), (256, 256), (768, 256), (3072, 1024), (20, 4)])
def test_the_hadamard_transform_is_the_recursive_one_in_every_block(width: int, block: int) -> None:
    x = torch.randn(3, 5, width, dtype=torch.float64)
    expected = torch.cat([part @ sylvester(block) for part in x.split(block, dim=-1)], dim=-1)
    torch.testing.assert_close(hadamard(x), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(hadamard(hadamard(x)), x, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(hadamard(x).norm(dim=-1), x.norm(dim=-1), rtol=1e-12, atol=1e-12)


def test_an_outlier_is_spread_and_costs_four_bits_less() -> None:
    x = torch.randn(8, 256)
    x[:, 3] = 60.0

    def lost(values: torch.Tensor) -> float:
        return float((quantize_activation(values, 4) - values).norm() / x.norm())

    assert hadamard(x).abs().max() < 10
    assert lost(hadamard(x)) < 0.5 * lost(x)
