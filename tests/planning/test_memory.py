"""The formulas against what they describe: tensors that autograd keeps, packed students, llama.cpp's own sizes."""

import dataclasses
from typing import Any

import gguf
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bitnet_core.evaluation.random_student import build
from bitnet_core.export.layout import layout_named
from bitnet_core.model.cache import KVCache
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.packing import weight_bytes
from bitnet_core.model.presets import preset
from bitnet_core.model.student import Student
from bitnet_core.planning.memory import (
    Batch,
    Beside,
    activation_bytes,
    checkpoint_bytes,
    kv_cache_bytes,
    largest_batch,
    packed_bytes,
    training_bytes,
)
from bitnet_core.settings.presets import PLANNED
from bitnet_core.training.heldout_size import MOST_TOKENS

SHAPE = StudentConfig(
    vocab_size=100,
    hidden_size=256,
    intermediate_size=768,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=512,
)
CPU: dict[str, Any] = {"narrow": False, "device_type": "cpu"}


def _kept_by_autograd(
    config: StudentConfig, batch: Batch, *, narrow: bool, recompute: bool = False
) -> tuple[int, int]:
    """Bytes of the distinct storages that a forward pass saves: quantised weights, and everything else."""
    student = Student(config)
    student.recompute = recompute
    ids_BT = torch.zeros(batch.rows, batch.length, dtype=torch.long)
    segments_BT = torch.zeros_like(ids_BT) if batch.packed else None
    parameters = {parameter.untyped_storage().data_ptr() for parameter in student.parameters()}
    shapes = {tuple(sorted(linear.weight.shape)) for linear in student.bit_linears()}
    sizes: dict[int, tuple[bool, int]] = {}
    alive: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            is_weight = tensor.dim() == 2 and tuple(sorted(tensor.shape)) in shapes
            sizes[storage.data_ptr()] = (is_weight, storage.nbytes())
            alive.append(tensor)
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=narrow),
    ):
        student(ids_BT, segments_BT=segments_BT)
    weights = sum(size for is_weight, size in sizes.values() if is_weight)
    return weights, sum(size for is_weight, size in sizes.values() if not is_weight)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("groups", "embedding"), [(1, ""), (4, ""), (4, "Q5_0")])
def test_activations_are_what_autograd_keeps(narrow: bool, packed: bool, groups: int, embedding: str) -> None:
    config = dataclasses.replace(SHAPE, num_key_value_heads=groups, embedding_type=embedding)
    batch = Batch(rows=3, length=41, packed=packed)
    weights, others = _kept_by_autograd(config, batch, narrow=narrow)
    assert activation_bytes(config, batch, narrow=narrow) == others
    assert training_bytes(config, batch, narrow=narrow, device_type="cpu")["quantized weights"] == weights


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_layers_that_are_computed_again_keep_their_inputs(narrow: bool, packed: bool, layers: int) -> None:
    config = dataclasses.replace(SHAPE, num_hidden_layers=layers)
    batch = Batch(rows=3, length=41, packed=packed)
    weights, others = _kept_by_autograd(config, batch, narrow=narrow, recompute=True)
    parts = training_bytes(config, batch, narrow=narrow, device_type="cpu", recompute=True)
    assert (parts["activations"], parts["quantized weights"]) == (others, weights)
    plain = training_bytes(config, batch, narrow=narrow, device_type="cpu")
    assert (parts == plain) == (layers == 1)
    assert parts["peak"] <= plain["peak"]


def test_states_are_16_bytes_a_parameter() -> None:
    parts = training_bytes(SHAPE, Batch(1, 16), **CPU)
    assert parts["weights"] + parts["adamw"] + parts["gradients"] == 16 * SHAPE.parameters()
    assert parts["peak"] < sum(parts.values())  # not everything is there at the same time


@pytest.mark.parametrize("narrow", [False, True])
def test_an_embedding_that_is_kept_takes_its_weights_and_no_more(narrow: bool) -> None:
    kept = dataclasses.replace(SHAPE, embedding_type="Q5_0")
    numbers, batch = SHAPE.vocab_size * SHAPE.hidden_size, Batch(1, 16)
    assert kept.trained_parameters() == sum(one.numel() for one in Student(kept).parameters() if one.requires_grad)
    parts, trained = (training_bytes(one, batch, narrow=narrow, device_type="cpu") for one in (kept, SHAPE))
    less = {name: trained[name] - size for name, size in parts.items() if size != trained[name]}
    assert less.pop("peak") >= 8 * numbers
    assert less.pop("activations") == 8 * batch.positions  # the ids
    # Its gradient in the loss; narrow, the part of it that one chunk makes.
    assert less == {"adamw": 8 * numbers, "gradients": 4 * numbers, "loss": (4 + 2 * narrow) * numbers}
    assert checkpoint_bytes(SHAPE) - checkpoint_bytes(kept) == 8 * numbers


def test_a_training_that_was_measured_on_a_gpu() -> None:
    """One H200, torch 2.11, eager bf16: 21.9 GiB at the peak of torch's allocator (docs/planning.md)."""
    batch = Batch(rows=32, length=1024)
    parts = training_bytes(preset("mini", 49_152), batch, narrow=True, device_type="cuda")
    assert parts["peak"] / 2**30 == pytest.approx(21.9, rel=0.1)


@given(st.sampled_from(PLANNED), st.integers(100, 200_000), st.integers(1, 64), st.integers(2, 64))
def test_sharding_divides_the_states_and_nothing_else(name: str, vocabulary: int, rows: int, devices: int) -> None:
    config, batch = preset(name, vocabulary), Batch(rows, 256)
    one, each = (training_bytes(config, batch, **CPU, devices=count) for count in (1, devices))
    for part in ("weights", "adamw", "gradients", "quantized weights"):
        assert one[part] <= devices * each[part] < one[part] + devices
    assert each["activations"] == one["activations"] and each["loss"] == one["loss"]
    assert each["whole layer"] > 0 == one["whole layer"]


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 8))
def test_a_teacher_beside_the_student_adds_what_it_keeps(parameters: int, rows: int, devices: int) -> None:
    batch, teacher = Batch(rows, 32, candidates=0), Beside(parameters << 20, 24, 4)
    alone, together = (training_bytes(SHAPE, batch, **CPU, devices=devices, teacher=one) for one in (None, teacher))
    assert {name: amount for name, amount in together.items() if name in alone and name != "peak"} == {
        name: amount for name, amount in alone.items() if name != "peak"
    }
    states = torch.zeros(batch.positions, 24).nbytes + torch.zeros(MOST_TOKENS, 24).nbytes
    assert together["teacher's states"] == states
    assert together["teacher's weights"] == 4 * parameters << 20
    more = together["peak"] - alone["peak"] - states - together["teacher's weights"]
    assert 0 <= more <= together["teacher's logits"]  # it matters where the forward pass has the peak


@given(st.integers(1, 4), st.integers(1, 5), st.integers(100, 50_000))
def test_more_of_anything_takes_more(rows: int, layers: int, vocabulary: int) -> None:
    def peak(rows: int, layers: int, vocabulary: int, accumulate: int = 1) -> int:
        config = preset("nano", vocabulary, layers=layers)
        return training_bytes(config, Batch(rows, 64, accumulate), **CPU)["peak"]

    least = peak(rows, layers, vocabulary)
    assert least <= peak(rows + 1, layers, vocabulary)
    assert least < peak(rows, layers + 1, vocabulary)
    assert least < peak(rows, layers, vocabulary + 100)
    assert least < peak(rows, layers, vocabulary, accumulate=2)


@given(st.integers(0, 3 << 30))
def test_the_largest_batch_fits_and_one_more_does_not(room: int) -> None:
    rows = largest_batch(SHAPE, Batch(1, 128), room, **CPU)
    peak = {count: training_bytes(SHAPE, Batch(count, 128), **CPU)["peak"] for count in (rows, rows + 1)}
    assert (rows == 0 or peak[rows] <= room) and peak[rows + 1] > room


def test_a_packed_student_has_exactly_these_bytes() -> None:
    assert packed_bytes(SHAPE) == weight_bytes(build(SHAPE, 0, "cpu"))["total"]


def test_the_cache_has_exactly_these_bytes() -> None:
    cache = KVCache(SHAPE, max_len=77)
    held = sum(tensor.nbytes for tensor in vars(cache).values() if isinstance(tensor, Tensor))
    assert kv_cache_bytes(SHAPE, 77, 4) == held


@pytest.mark.parametrize(
    ("ternary", "embedding"), [("TQ2_0", "Q8_0"), ("TQ1_0", "F16"), ("TQ2_0", "Q6_K"), ("TQ2_0", "Q5_0")]
)
def test_blocks_are_those_of_llama_cpp(ternary: str, embedding: str) -> None:
    def stored(weights: int, name: str) -> int:
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
        return weights // block * size

    linears = 2 * sum(rows * columns for rows, columns in SHAPE.linear_shapes().values())
    head = SHAPE.vocab_size * SHAPE.hidden_size
    others = SHAPE.parameters() - linears - head + 7 * 2
    assert (
        layout_named(SHAPE, ternary, embedding).tensor_bytes()
        == stored(linears, ternary) + stored(head, embedding) + 4 * others
    )
