"""Blocks are those of the `gguf` package, written by others; Q2_0, which it lacks, is its description."""

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.export import blocks

_rows = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0"])
@given(_rows)
def test_ternary_blocks_are_those_of_the_gguf_package(name: str, rows: tuple[int, int, int]) -> None:
    count, width, seed = rows
    codes = np.random.default_rng(seed).integers(-1, 2, (count, width * 256)).astype(np.int8)
    codes[:, ::256] = 1  # its scale is the largest weight, so a block of zeros would get another one
    kind = gguf.GGMLQuantizationType[name]
    packed = blocks.LINEAR_TYPES[name].rows(codes)
    assert np.array_equal(packed, gguf.quants.quantize(codes.astype(np.float32), kind))
    assert np.array_equal(gguf.quants.dequantize(packed, kind), codes)


@given(_rows)
def test_q2_0_is_its_description(rows: tuple[int, int, int]) -> None:
    count, width, seed = rows
    codes = np.random.default_rng(seed).integers(-1, 2, (count, width * 64)).astype(np.int8)
    packed = blocks.Q2_0.rows(codes)
    assert packed.shape == (count, width * 18)
    for row, data in zip(codes.tolist(), packed, strict=True):
        for place, code in enumerate(row):
            block = data[place // 64 * 18 :][:18].tobytes()
            assert np.frombuffer(block[:2], np.float16)[0] == 1
            assert ((block[2 + place % 64 // 4] >> (2 * (place % 4))) & 3) - 1 == code


@given(_rows)
def test_q4_0_holds_the_codes(rows: tuple[int, int, int]) -> None:
    count, width, seed = rows
    codes = np.random.default_rng(seed).integers(-1, 2, (count, width * 32)).astype(np.int8)
    packed = blocks.Q4_0.rows(codes)
    assert packed.shape == (count, width * 18)
    assert np.array_equal(gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q4_0), codes)


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-6, 0.02, 300.0]))
def test_q8_0_is_that_of_the_gguf_package(seed: int, size: float) -> None:
    values = (np.random.default_rng(seed).normal(size=(3, 96)) * size).astype(np.float32)
    assert np.array_equal(blocks.Q8_0.rows(values), gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0))


def plain_signed(row: list[float], half: int) -> bytes:
    """Block by block and weight by weight, as llama.cpp describes Q4_0 and Q5_0, in fp32 as there."""
    f32, out = np.float32, b""
    for start in range(0, len(row), 32):
        block = [f32(value) for value in row[start : start + 32]]
        largest = f32(0)
        for value in block:
            largest = value if abs(value) > abs(largest) else largest
        d = largest / f32(-half)
        inverse = f32(1) / d if d else f32(0)
        codes = [min(2 * half - 1, int(value * inverse + f32(half + 0.5))) for value in block]
        fifth = sum((code >> 4) << place for place, code in enumerate(codes)).to_bytes(4, "little")
        low = bytes((codes[place] & 15) | (codes[place + 16] & 15) << 4 for place in range(16))
        out += np.float16(d).tobytes() + (fifth if half == 16 else b"") + low
    return out


_weights = st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 1e-6, 0.02, 1.0, 300.0]))


@pytest.mark.parametrize(("name", "half"), [("Q4_0", 8), ("Q5_0", 16)])
@given(_weights, st.integers(0, 8))
def test_types_with_one_scale_are_their_description_and_hold_what_they_have_rounded(
    name: str, half: int, weights: tuple[int, float], power: int
) -> None:
    (seed, size), kind, here = weights, gguf.GGMLQuantizationType[name], blocks.EMBEDDING_TYPES[name]
    values = (np.random.default_rng(seed).normal(size=(3, 96)) * size).astype(np.float32)
    values[0, :32] = 0
    values += 0  # the sign of a zero means nothing
    packed = here.rows(values)
    assert [row.tobytes() for row in packed] == [plain_signed(row.tolist(), half) for row in values]
    again = gguf.quants.dequantize(packed, kind)
    assert np.array_equal(blocks.held(name, values), again)
    largest = np.abs(values).reshape(-1, 32).max(axis=1, keepdims=True)
    # Half a step, a whole one for the opposite of the largest, and what the scale loses to fp16.
    assert (np.abs(again - values).reshape(-1, 32) <= largest * (1 / half + 2e-3) + 1e-6).all()
    # What the type holds it holds exactly, scaled by a power of two as well.
    scaled = again * np.float32(2.0**power)
    assert np.array_equal(gguf.quants.dequantize(here.rows(scaled), kind), scaled)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["Q4_0", "Q5_0", "Q6_K", "Q8_0"])
@pytest.mark.parametrize("size", [1e-38, 1e-40, 1e-45])
def test_numbers_too_small_for_a_scale_are_zeros(name: str, size: float) -> None:
    """Such as those of tokens that no text had, which weight decay has made ever smaller."""
    values = (np.random.default_rng(0).normal(size=(2, 256)) * size).astype(np.float32)
    packed = blocks.EMBEDDING_TYPES[name].rows(values)
    assert not gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[name]).any()


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.02, 300.0]))
def test_q6_k_is_read_back_within_its_step(seed: int, size: float) -> None:
    values = (np.random.default_rng(seed).normal(size=(2, 512)) * size).astype(np.float32)
    again = gguf.quants.dequantize(blocks.Q6_K.rows(values), gguf.GGMLQuantizationType.Q6_K)
    largest = np.abs(values).reshape(-1, 256).max(axis=1)
    error = np.abs(again - values).reshape(-1, 256).max(axis=1)
    # A step of 1/32, for the largest code has no opposite, and what the scale loses to its own 8 bits and to fp16.
    assert (error <= largest * (1 / 32 + 0.01) + 1e-9).all()
    assert error.mean() <= largest.mean() * 0.7 / 32


def test_rows_that_the_block_does_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="blocks of 256"):
        blocks.TQ2_0.rows(np.zeros((1, 576), np.int8))
