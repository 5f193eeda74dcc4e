"""Weights as llama.cpp stores them: blocks of one row each. Pure functions on numpy arrays.

Layouts: ggml's `ggml-common.h` and `ggml-quants.c`. The ternary types get their codes with a block scale of 1, and
the tensor's own scale stands beside it in full precision; folded into the block it would be rounded to fp16.

Shapes: R rows, C columns (weights of a row), N blocks, B weights of a block.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
_ONE = np.array([1.0], np.float16).view(np.uint8)
_TRITS_PER_BYTE = 5
_LEAST = np.finfo(np.float32).tiny
_HALVES = {"Q4_0": 8, "Q5_0": 16}
"""The code of 0 in the types of values with one scale for a block and one more negative code than positive ones."""


@dataclass(frozen=True)
class BlockType:
    """A tensor type of ggml: its number, the weights and bytes of a block, its number among file types."""

    name: str
    number: int
    weights: int
    bytes: int
    file_type: int
    pack: Callable[[NDArray[Any]], Bytes]
    """Blocks [N, B] to bytes [N, bytes]."""

    def size(self, weights: int) -> int:
        """Bytes of so many weights, which fill whole blocks."""
        return weights // self.weights * self.bytes

    def rows(self, values_RC: NDArray[Any]) -> Bytes:
        """Bytes [R, …] of rows that the block divides; ValueError for others."""
        rows, columns = values_RC.shape
        if columns % self.weights:
            raise ValueError(f"{self.name} cuts rows into blocks of {self.weights}, and these have {columns}")
        return self.pack(values_RC.reshape(-1, self.weights)).reshape(rows, -1)


def _f32(values_NB: NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(values_NB, np.float32).view(np.uint8)


def _f16(values_NB: NDArray[Any]) -> Bytes:
    return np.ascontiguousarray(values_NB, np.float16).view(np.uint8)


def _tq2_0(codes_NB: NDArray[Any]) -> Bytes:
    """Byte j of half h holds weights 128h + j, + 32, + 64 and + 96, two bits each, lowest first; then the scale."""
    planes_N24J = (codes_NB.astype(np.int8) + 1).astype(np.uint8).reshape(-1, 2, 4, 32)
    packed = sum(planes_N24J[:, :, plane] << np.uint8(2 * plane) for plane in range(4))
    return _with_scale_last(np.asarray(packed, np.uint8).reshape(len(codes_NB), -1))


def _tq1_0(codes_NB: NDArray[Any]) -> Bytes:
    """Five weights a byte in base 3, as a fraction of 256, rounded up; 32, then 16, then 4 bytes; the scale."""
    trits_NB = (codes_NB.astype(np.int8) + 1).astype(np.uint16)
    parts, begin = [], 0
    for width, digits in ((32, 5), (16, 5), (4, 4)):
        part = trits_NB[:, begin : begin + width * digits].reshape(-1, digits, width)
        powers = 3 ** np.arange(_TRITS_PER_BYTE - 1, _TRITS_PER_BYTE - 1 - digits, -1)
        number = (part * powers[None, :, None]).sum(axis=1)
        parts.append(((number * 256 + 242) // 243).astype(np.uint8))
        begin += width * digits
    return _with_scale_last(np.concatenate(parts, axis=1))


def _q2_0(codes_NB: NDArray[Any]) -> Bytes:
    """The scale; then byte j holds weights 4j to 4j + 3, two bits each, lowest first."""
    fields_NJ4 = (codes_NB.astype(np.int8) + 1).astype(np.uint8).reshape(len(codes_NB), -1, 4)
    packed = sum(fields_NJ4[:, :, place] << np.uint8(2 * place) for place in range(4))
    scale = np.broadcast_to(_ONE, (len(codes_NB), 2))
    return np.concatenate([scale, np.asarray(packed, np.uint8)], axis=1)


def _q4_0(codes_NB: NDArray[Any]) -> Bytes:
    """The scale; then each weight as its code + 8."""
    scale = np.broadcast_to(_ONE, (len(codes_NB), 2))
    return np.concatenate([scale, _nibbles((codes_NB.astype(np.int8) + 8).astype(np.uint8))], axis=1)


def _q4_0_of_values(values_NB: NDArray[Any]) -> Bytes:
    """As `_q4_0`, with a scale of its own; a weight is d · (code − 8)."""
    d_N1, codes_NB = _signed(values_NB, _HALVES["Q4_0"])
    return np.concatenate([d_N1.view(np.uint8), _nibbles(codes_NB)], axis=1)


def _q5_0(values_NB: NDArray[Any]) -> Bytes:
    """The scale, the fifth bits of all codes, then the other four as in Q4_0; a weight is d · (code − 16)."""
    d_N1, codes_NB = _signed(values_NB, _HALVES["Q5_0"])
    fifth_N4 = np.packbits(codes_NB >> np.uint8(4), axis=1, bitorder="little")
    return np.concatenate([d_N1.view(np.uint8), fifth_N4, _nibbles(codes_NB & np.uint8(15))], axis=1)


def held(kind: str, values_RC: NDArray[Any]) -> NDArray[np.float32]:
    """What Q4_0 or Q5_0 holds in place of these values, in rows of whole blocks of 32.

    The type holds the result exactly, and also any power of two times the result.
    """
    d_N1, codes_NB = _signed(values_RC.reshape(-1, 32), _HALVES[kind])
    found: NDArray[np.float32] = d_N1.astype(np.float32) * (codes_NB.astype(np.float32) - np.float32(_HALVES[kind]))
    return found.reshape(values_RC.shape)


def _signed(values_NB: NDArray[Any], half: int) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """The fp16 scale [N, 1], and codes below 2 · half. Dividing the largest value by -half gives it code 0."""
    wide_NB = values_NB.astype(np.float32)
    largest_N1 = np.take_along_axis(wide_NB, np.abs(wide_NB).argmax(axis=1, keepdims=True), axis=1)
    d_N1 = largest_N1 / np.float32(-half)
    places_NB = wide_NB * _inverse(d_N1) + np.float32(half + 0.5)
    return d_N1.astype(np.float16), np.minimum(places_NB, np.float32(2 * half - 1)).astype(np.uint8)


def _nibbles(codes_NB: NDArray[np.uint8]) -> Bytes:
    """Byte j holds code j, in its low half, and code j + 16."""
    codes_N2J = codes_NB.reshape(len(codes_NB), 2, -1)
    return codes_N2J[:, 0] | codes_N2J[:, 1] << np.uint8(4)


def _q8_0(values_NB: NDArray[Any]) -> Bytes:
    """An fp16 scale of max|x|/127, then a signed byte a weight."""
    wide = values_NB.astype(np.float32)
    scale_N1 = np.abs(wide).max(axis=1, keepdims=True) / np.float32(127)
    codes = _nearest(wide * _inverse(scale_N1)).astype(np.int8)
    return np.concatenate([scale_N1.astype(np.float16).view(np.uint8), codes.view(np.uint8)], axis=1)


def _q6_k(values_NB: NDArray[Any]) -> Bytes:
    """Six bits a weight, a signed byte of scale for every 16 weights, and an fp16 scale for all of the scales.

    A weight is d · scale · (code − 32). Low nibbles come first (two weights 64 apart share a byte), then pairs of
    high bits (four weights 32 apart), then the scales, then d.
    """
    count = len(values_NB)
    wide_NGB = values_NB.astype(np.float32).reshape(count, 16, 16)
    # Dividing the largest value by -32 gives it the one code that has no opposite.
    place = np.abs(wide_NGB).argmax(axis=2, keepdims=True)
    steps_NG1 = np.take_along_axis(wide_NGB, place, axis=2) / np.float32(-32)
    widest = np.abs(steps_NG1[:, :, 0]).argmax(axis=1, keepdims=True)
    largest_N1 = np.take_along_axis(steps_NG1[:, :, 0], widest, axis=1)
    d_N1 = (largest_N1 / np.float32(-128)).astype(np.float16)
    scales_NG = np.clip(_nearest(steps_NG1[:, :, 0] * _inverse(d_N1.astype(np.float32))), -128, 127)
    real_NG1 = (d_N1.astype(np.float32) * scales_NG)[:, :, None]
    codes = (np.clip(_nearest(wide_NGB * _inverse(real_NG1)), -32, 31) + 32).astype(np.uint8)
    codes_N2QJ = codes.reshape(count, 2, 4, 32)
    low = codes_N2QJ & 15
    low_bytes = np.concatenate([low[:, :, 0] | low[:, :, 2] << 4, low[:, :, 1] | low[:, :, 3] << 4], axis=2)
    high_bytes = np.asarray(sum((codes_N2QJ[:, :, at] >> 4) << np.uint8(2 * at) for at in range(4)), np.uint8)
    parts = [low_bytes.reshape(count, -1), high_bytes.reshape(count, -1)]
    return np.concatenate([*parts, scales_NG.astype(np.int8).view(np.uint8), d_N1.view(np.uint8)], axis=1)


def _with_scale_last(packed: Bytes) -> Bytes:
    return np.concatenate([packed, np.broadcast_to(_ONE, (len(packed), 2))], axis=1)


def _inverse(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1/x, and 0 for 0 and for scales so small that 1/x would be infinite, which fp16 holds as 0."""
    return np.divide(np.float32(1), values, out=np.zeros_like(values), where=np.abs(values) >= _LEAST)


def _nearest(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Halves away from zero, as C's roundf."""
    rounded: NDArray[np.float32] = np.trunc(values + np.copysign(np.float32(0.5), values))
    return rounded


F32 = BlockType("F32", 0, 1, 4, 0, _f32)
F16 = BlockType("F16", 1, 1, 2, 1, _f16)
Q4_0 = BlockType("Q4_0", 2, 32, 18, 2, _q4_0)
Q5_0 = BlockType("Q5_0", 6, 32, 22, 8, _q5_0)
Q8_0 = BlockType("Q8_0", 8, 32, 34, 7, _q8_0)
Q6_K = BlockType("Q6_K", 14, 256, 210, 18, _q6_k)
TQ1_0 = BlockType("TQ1_0", 34, 256, 54, 36, _tq1_0)
TQ2_0 = BlockType("TQ2_0", 35, 256, 66, 37, _tq2_0)
Q2_0 = BlockType("Q2_0", 42, 64, 18, 41, _q2_0)
LINEAR_TYPES = {one.name: one for one in (TQ2_0, TQ1_0, Q2_0, Q4_0, F16)}
EMBEDDING_TYPES = {one.name: one for one in (Q8_0, F16, Q6_K, Q5_0, replace(Q4_0, pack=_q4_0_of_values))}
