"""Two bits a weight: pack and unpack are inverses, and a packed student computes what the quantised one does."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bitnet_core.errors import BitnetError
from bitnet_core.model import packing
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.layers import BitLinear
from bitnet_core.model.packing import PackedBitLinear, pack, pack_student, unpack
from bitnet_core.model.student import Student
from tests.builders import files_of_at_most


@st.composite
def code_tables(draw: st.DrawFn) -> list[list[int]]:
    rows, columns = draw(st.integers(1, 13)), draw(st.integers(1, 7))
    row = st.lists(st.sampled_from([-1, 0, 1]), min_size=columns, max_size=columns)
    return draw(st.lists(row, min_size=rows, max_size=rows))


def slow_pack(codes: list[list[int]]) -> list[list[int]]:
    """Byte by byte, as the layout is described."""
    height = (len(codes) + 3) // 4
    table = [[0] * len(codes[0]) for _ in range(height)]
    for row, values in enumerate(codes):
        for column, code in enumerate(values):
            table[row % height][column] += (code + 1) * 4 ** (row // height)
    return table


@given(code_tables())
def test_pack_is_the_layout_and_unpack_its_inverse(codes: list[list[int]]) -> None:
    packed = pack(torch.tensor(codes))
    assert packed.dtype == torch.uint8
    assert packed.tolist() == slow_pack(codes)
    assert unpack(packed, len(codes)).tolist() == codes


def test_the_layout_is_the_one_of_transformers() -> None:
    bitnet = pytest.importorskip("transformers.integrations.bitnet")
    codes = torch.randint(-1, 2, (12, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(pack(codes), bitnet.pack_weights(codes.float()))


def test_only_ternary_codes_are_packed() -> None:
    with pytest.raises(ValueError, match="codes"):
        pack(torch.tensor([[2, 0]]))


@pytest.fixture(params=[(1, 1), (4, 8), (7, 3), (33, 20), (256, 64)], ids=str)
def linear(request: pytest.FixtureRequest) -> BitLinear:
    out_features, in_features = request.param
    made = BitLinear(in_features, out_features)
    torch.nn.init.normal_(made.weight, 0.0, 0.02)
    return made


@pytest.fixture(params=[packing._SCRATCH_PREFILL, 64, 1], ids=["whole", "chunks", "a row at a time"])
def _scratch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "_SCRATCH_PREFILL", request.param)
    monkeypatch.setattr(packing, "_SCRATCH_DECODE", request.param)


@pytest.mark.usefixtures("_scratch")
@pytest.mark.parametrize("bits", [8, 4, None])
@pytest.mark.parametrize("shape", [(1,), (2, 3), (1, 20)], ids=str)
def test_a_packed_linear_computes_the_quantised_forward(
    linear: BitLinear, shape: tuple[int, ...], bits: int | None
) -> None:
    linear.activation_bits = bits
    packed = PackedBitLinear.from_linear(linear)
    x = torch.randn(*shape, linear.in_features)
    # Without bits the weights stay ternary all the same; only the input is taken as it is.
    expected = x @ dequantised(linear).t() if bits is None else linear(x)
    result = packed(x)
    assert result.shape == expected.shape
    assert torch.allclose(result, expected, rtol=1e-5, atol=1e-5 * float(expected.detach().abs().max()))


def dequantised(linear: BitLinear) -> Tensor:
    scale = linear.weight.detach().abs().mean().clamp(min=1e-5)
    return torch.clamp(torch.round(linear.weight.detach() / scale), -1, 1) * scale


@settings(max_examples=25)
@given(code_tables(), st.integers(-3, 3))
def test_integers_come_out_exact(codes: list[list[int]], power: int) -> None:
    """Codes times a power of two are never rounded, so the result equals the slow twin's exactly."""
    table = torch.tensor(codes)
    packed = PackedBitLinear(pack(table), torch.tensor(2.0**power), len(codes))
    x = torch.arange(3 * table.shape[1]).view(3, -1) % 17 - 8
    x[:, 0] = 127  # the largest code, as in every quantised token
    assert torch.equal(packed.project(x.float()), (x @ table.t()).float() * 2.0**power)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_packed_student_gives_the_students_hidden_states(config: StudentConfig, bits: int) -> None:
    student = Student(config).eval()
    student.activation_bits = bits
    packed = pack_student(student)
    ids = torch.randint(config.vocab_size, (12, 9))
    with torch.no_grad():
        expected, result = student(ids), packed(ids)
    assert packed.activation_bits == bits
    # Sums in another order may put a value on a rounding boundary one level off, at 4 bits a seventh of the largest,
    # and the rest of that sequence follows; how often depends on the processor. The other sequences agree.
    alike_B = torch.nn.functional.cosine_similarity(result, expected, dim=-1).amin(dim=1) > 0.9999
    assert alike_B.sum() >= (12 if bits == 8 else 6)
    assert torch.equal(packed.output_weight, student.output_weight)


def test_bits_can_be_changed_after_packing(config: StudentConfig) -> None:
    packed = pack_student(Student(config))
    ids = torch.arange(8).view(1, 8)
    at_8 = packed(ids)
    packed.activation_bits = 4
    assert not torch.equal(packed(ids), at_8)


def test_weight_bytes_are_a_quarter_byte_per_weight(config: StudentConfig) -> None:
    student = Student(config)
    linears = sum(m.weight.numel() for m in student.bit_linears())
    count = len(list(student.bit_linears()))
    sizes = packing.weight_bytes(pack_student(student))
    assert sizes["linears"] == linears // 4 + 4 * count
    assert sizes["embedding"] == config.vocab_size * config.hidden_size * 4
    assert sizes["total"] == sizes["linears"] + sizes["embedding"] + sizes["norms"]


def test_a_packed_student_is_loaded_as_it_was_saved(config: StudentConfig, tmp_path: Path) -> None:
    student = Student(config)
    student.activation_bits = 4
    packed = pack_student(student)
    packing.save_packed(packed, tmp_path / "packed.pt")
    again = packing.load_packed(tmp_path / "packed.pt")
    assert again.config == config
    assert again.activation_bits == 4
    ids = torch.arange(8).view(1, 8)
    assert torch.equal(again(ids), packed(ids))


def test_foreign_and_torn_files_are_named(config: StudentConfig, tmp_path: Path) -> None:
    path = tmp_path / "packed.pt"
    packing.save_packed(pack_student(Student(config)), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BitnetError, match=r"packed\.pt"):
        packing.load_packed(path)
    torch.save({"format": "something else"}, path)
    with pytest.raises(BitnetError, match=r"packed\.pt"):
        packing.load_packed(path)


def test_missing_tensors_are_refused(config: StudentConfig) -> None:
    tensors = dict(pack_student(Student(config)).state_dict())
    del tensors["model.layers.0.mlp.up_proj.packed"]
    with pytest.raises(BitnetError, match="pack it again"):
        packing.assemble(config, tensors, [8] * config.num_hidden_layers)


def test_a_packed_student_that_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path) -> None:
    config = StudentConfig(50, 256, 256, 1, 4, 4, max_position_embeddings=8)
    packed = pack_student(Student(config))
    with files_of_at_most(10_000), pytest.raises(BitnetError, match=r"p\.pt can't be written \(File too large\); "):
        packing.save_packed(packed, tmp_path / "p.pt")
    assert list(tmp_path.iterdir()) == []
