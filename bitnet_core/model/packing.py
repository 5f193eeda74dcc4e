"""Ternary weights at two bits each, and a student that computes with them. It knows no experiment.

Four codes share a byte, in the layout of transformers' `integrations/bitnet.py`: with R = ceil(O / 4), byte
[r, i] holds the codes of rows r, R + r, 2R + r and 3R + r, lowest bits first, each stored as code + 1. A packed
tensor is therefore, unchanged, the `weight` of an offline BitNet export.

Shapes: O out features, I in features, R packed rows, N packed rows of one chunk, M tokens.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from bitnet_core.errors import BitnetError, raise_if_not_the_file
from bitnet_core.files import atomic_path
from bitnet_core.files.writable import writing
from bitnet_core.model import integers
from bitnet_core.model.config import StudentConfig
from bitnet_core.model.integers import Codes
from bitnet_core.model.layers import BitLinear
from bitnet_core.model.quant import hadamard, quantize_activation, ternarize, widened
from bitnet_core.model.student import Student
from bitnet_core.model.tensor_file import is_tensors, load_tensors, save_tensors

CODES_PER_BYTE = 4
# How many weights are unpacked at a time. On a CPU, one token needs a piece that fits into the cache, and a longer
# input a larger one that keeps the matmul efficient; a GPU needs enough work to be busy.
_SCRATCH_DECODE, _SCRATCH_PREFILL, _SCRATCH_GPU = 1 << 20, 1 << 22, 1 << 24
_FEW_TOKENS = 16
_FORMAT = "bitnet-packed-student-1"


def packed_rows(rows: int) -> int:
    return -(-rows // CODES_PER_BYTE)


def pack(codes_OI: Tensor) -> Tensor:
    """Bytes [R, I] of ternary codes [O, I] of any dtype; ValueError for values other than -1, 0 and 1."""
    if codes_OI.numel() and int(codes_OI.abs().max()) > 1:
        raise ValueError("only the codes -1, 0 and 1 can be packed at two bits")
    rows, columns = codes_OI.shape
    padded = codes_OI.new_full((CODES_PER_BYTE * packed_rows(rows), columns), -1, dtype=torch.int8)
    padded[:rows] = codes_OI
    planes_4RI = (padded + 1).to(torch.uint8).view(CODES_PER_BYTE, -1, columns)
    packed_RI = planes_4RI[0].clone()
    for plane in range(1, CODES_PER_BYTE):
        packed_RI |= planes_4RI[plane] << (2 * plane)
    return packed_RI


def unpack(packed_RI: Tensor, rows: int) -> Tensor:
    """Codes [O, I], int8, of packed bytes: the inverse of `pack`, with `rows` = O."""
    planes = [(((packed_RI >> (2 * plane)) & 3).to(torch.int8) - 1) for plane in range(CODES_PER_BYTE)]
    return torch.cat(planes)[:rows]


class PackedBitLinear(BitLinear):
    """The quantised forward pass of `BitLinear` from two-bit weights, without a master and without gradients.

    Rows are unpacked a chunk at a time into a small scratch tensor, so the full matrix never exists.
    """

    packed: Tensor
    scale: Tensor

    def __init__(self, packed_RI: Tensor, scale: Tensor, out_features: int) -> None:
        nn.Module.__init__(self)  # BitLinear's own would allocate the master
        self.in_features, self.out_features = packed_RI.shape[1], out_features
        self.activation_bits: int | None = 8
        self.hadamard = False
        self.register_buffer("packed", packed_RI)
        self.register_buffer("scale", scale)

    @classmethod
    def from_linear(cls, linear: BitLinear) -> "PackedBitLinear":
        codes_OI, scale = ternarize(linear.weight.detach())
        packed = cls(pack(codes_OI), scale.float(), linear.out_features)
        packed.activation_bits, packed.hadamard = linear.activation_bits, linear.hadamard
        return packed

    @torch.no_grad()
    def quantize_input(self, x: Tensor) -> Tensor | Codes:
        x = hadamard(x) if self.hadamard else x
        if self.activation_bits and integers.usable(x, self.activation_bits):
            return integers.codes_of(x, self.activation_bits)
        return x if self.activation_bits is None else quantize_activation(x, self.activation_bits)

    def hold(self, keep: bool) -> None:
        """Does nothing: the weight is quantised already."""

    @torch.no_grad()
    def project(self, x_q: Tensor | Codes) -> Tensor:
        """x_q [..., I] times the ternary weight: [..., O] in x_q's dtype, computed in fp32 (fp64 for fp64).

        Codes are multiplied in whole numbers; the result is in fp32.
        """
        coded, given = isinstance(x_q, Codes), x_q.codes if isinstance(x_q, Codes) else x_q
        x_MI = given.reshape(-1, self.in_features)
        x_MI = x_MI if coded else widened(x_MI)
        tokens, total = x_MI.shape[0], self.packed.shape[0]
        on_cpu = _SCRATCH_DECODE if tokens < _FEW_TOKENS else _SCRATCH_PREFILL
        most = _SCRATCH_GPU if x_MI.is_cuda else on_cpu
        chunk = min(total, max(1, most // (CODES_PER_BYTE * self.in_features)))
        scratch = self.packed.new_empty(CODES_PER_BYTE * chunk * self.in_features)
        wide = x_MI.new_empty(0 if coded else len(scratch))
        out_M4R = x_MI.new_empty((tokens, CODES_PER_BYTE, total), dtype=torch.float32 if coded else x_MI.dtype)
        for start in range(0, total, chunk):
            rows_NI = self.packed[start : start + chunk]
            count = rows_NI.shape[0]
            size = CODES_PER_BYTE * rows_NI.numel()
            codes_4NI = _unpack_shifted(rows_NI, scratch[:size].view(CODES_PER_BYTE, count, -1))
            if coded:
                product = integers.product(x_MI, codes_4NI.view(-1, self.in_features))
            else:
                product = x_MI @ wide[:size].view(codes_4NI.shape).copy_(codes_4NI).view(-1, self.in_features).t()
            out_M4R[:, :, start : start + count] = product.view(-1, CODES_PER_BYTE, count)
        # Plane k is 4^k too large. Dividing the outputs by that is exact, and touches much less memory.
        _, _, undo_4 = _plane_constants(x_MI.device)
        out_M4R.mul_((undo_4 * self.scale)[:, None])
        if isinstance(x_q, Codes):
            out_M4R.mul_(x_q.step.view(-1, 1, 1))
        out_MO = out_M4R.view(tokens, -1)[:, : self.out_features]
        return out_MO.to(out_M4R.dtype if coded else given.dtype).reshape(*given.shape[:-1], self.out_features)


def pack_student(student: Student) -> Student:
    """The same student for inference: packed linears; embedding and norms in fp32, shared with `student`."""
    tensors: dict[str, Tensor] = {}
    for name, module in student.named_modules():
        if isinstance(module, BitLinear):
            packed = PackedBitLinear.from_linear(module)
            tensors |= {f"{name}.packed": packed.packed, f"{name}.scale": packed.scale}
    linear_weights = {name.removesuffix(".packed") + ".weight" for name in tensors}
    tensors |= {n: p.detach() for n, p in student.named_parameters() if n not in linear_weights}
    return assemble(student.config, tensors, student.layer_bits)


def assemble(config: StudentConfig, tensors: dict[str, Tensor], layer_bits: Sequence[int | None]) -> Student:
    """A packed student from finished tensors, named as in `pack_student(...).state_dict()`.

    The student takes the tensors themselves, without copies. BitnetError if one is missing, unknown or of another
    shape.
    """
    with torch.device("meta"):
        student = Student(config)
        for module in list(student.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, BitLinear):
                    rows, columns = child.weight.shape
                    bytes_RI = torch.empty((packed_rows(rows), columns), dtype=torch.uint8)
                    packed = PackedBitLinear(bytes_RI, torch.empty(()), rows)
                    packed.hadamard = child.hadamard
                    setattr(module, name, packed)
    try:
        student.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise BitnetError("These packed weights are not a student of this shape; pack it again.") from error
    student.set_layer_bits(layer_bits)
    return student.requires_grad_(False).eval()


def weight_bytes(student: Student) -> dict[str, int]:
    """Exact bytes of the tensors by part: linears, embedding, norms, total."""
    parts = {"linears": 0, "embedding": 0, "norms": 0}
    for name, tensor in student.state_dict().items():
        part = "embedding" if "embed_tokens" in name else "norms" if "norm" in name else "linears"
        parts[part] += tensor.numel() * tensor.element_size()
    return parts | {"total": sum(parts.values())}


def save_packed(student: Student, path: Path) -> None:
    """Write a packed student (shape, layers' bits, tensors), whole or not at all. BitnetError if it can't be."""
    payload = {
        "format": _FORMAT,
        "config": student.config.to_dict(),
        "layer_bits": list(student.layer_bits),
        "tensors": student.state_dict(),
    }
    with writing(path), atomic_path(path) as temp:
        save_tensors(payload, temp)


def load_packed(path: Path, device: torch.device | str = "cpu") -> Student:
    """Read what `save_packed` wrote, into no more memory than the tensors need. BitnetError for any other file."""
    try:
        payload = load_tensors(path, device)
    except Exception as error:  # for a damaged file zipfile, torch and pickle each raise their own errors
        raise_if_not_the_file(error, path)
        raise BitnetError(f"{path} can't be read as a packed student; run `bitnet eval` again.") from error
    if not isinstance(payload, dict) or payload.get("format") != _FORMAT:
        raise BitnetError(f"{path} is not a packed student; run `bitnet eval` again.")
    config, tensors, bits = (payload.get(name) for name in ("config", "tensors", "layer_bits"))
    if not isinstance(config, dict) or not is_tensors(tensors):
        raise BitnetError(f"{path} is a damaged packed student; run `bitnet eval` again.")
    shape = StudentConfig.from_dict(config)
    if not shape.takes_layer_bits(bits):
        raise BitnetError(f"{path} has damaged activation bits; run `bitnet eval` again.")
    shape.require_tensors(tensors)
    return assemble(shape, tensors, bits)


@functools.cache
def _plane_constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each plane k: mask 3·4^k and offset 4^k as bytes, and the factor 4^-k. Cached, as a copy to a GPU waits."""
    powers = [CODES_PER_BYTE**plane for plane in range(CODES_PER_BYTE)]
    masks = torch.tensor([3 * power for power in powers], dtype=torch.uint8, device=device)
    offsets = torch.tensor(powers, dtype=torch.uint8, device=device)
    undo = torch.tensor([1 / power for power in powers], device=device)
    return masks[:, None, None], offsets[:, None, None], undo


def _unpack_shifted(packed_NI: Tensor, scratch_4NI: Tensor) -> Tensor:
    """code·4^k of each plane k, int8 [4, N, I], in `scratch_4NI`. Masking without shifting is two passes over it."""
    masks, offsets, _ = _plane_constants(packed_NI.device)
    # In bytes 0 - 1 wraps to 255 and 0 - 64 to 192, which are -1 and -64 in two's complement.
    torch.bitwise_and(packed_NI, masks, out=scratch_4NI)
    return scratch_4NI.sub_(offsets).view(torch.int8)
