"""Which device computes, and in which type. Master weights are always fp32; only the type of a step is chosen."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.files.user_folders import cache_folder
from bitnet_core.settings.values import DeviceOptions

INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_CACHED_KERNELS = 64
"""oneDNN matmul kernels to keep. A training step has about 30 shapes; the default of 1024 keeps every batch's."""


@dataclass(frozen=True)
class Precision:
    """`dtype` is autocast's; fp32 means no autocast. `reason` says for the log why it was chosen.

    With `narrow_matmuls`, oneDNN multiplies fp32 tensors in bf16 and sums in fp32.
    """

    dtype: torch.dtype
    reason: str
    narrow_matmuls: bool = False

    @property
    def autocast(self) -> bool:
        return self.dtype != torch.float32

    @property
    def scaled(self) -> bool:
        """Whether the loss is scaled: fp16 gradients underflow without that, bf16 has the exponents of fp32."""
        return self.dtype == torch.float16

    @property
    def name(self) -> str:
        name = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
        return f"{name} with bf16 matmuls" if self.narrow_matmuls else name

    @contextmanager
    def matmuls(self) -> Iterator[None]:
        """Apply `narrow_matmuls` to the forward and backward passes inside the block."""
        backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = backend.fp32_precision
        if self.narrow_matmuls:
            backend.fp32_precision = "bf16"
        try:
            yield
        finally:
            backend.fp32_precision = before


def pick_device(options: DeviceOptions) -> torch.device:
    """The device asked for, or the best one of this machine. BitnetError if the one asked for is absent."""
    wanted = "cpu" if options.force_cpu else options.device
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "rocm": torch.cuda.is_available() and torch.version.hip is not None,
        "mps": torch.backends.mps.is_available(),
    }
    if not available[wanted]:
        raise BitnetError(f"DEVICE_TYPE is {wanted}, but torch finds no such device; set DEVICE_TYPE=auto.")
    return torch.device("cuda" if wanted == "rocm" else wanted)


def pick_precision(options: DeviceOptions, device: torch.device) -> Precision:
    """The type asked for where `device` is faster with it, fp32 otherwise."""
    wanted = _DTYPES[options.dtype]
    if not options.autocast:
        return Precision(torch.float32, "USE_AMP is off")
    if wanted == torch.float32:
        return Precision(torch.float32, "TORCH_DTYPE is fp32")
    if device.type == "cpu":
        # With AMX, bf16 autocast is 20 % faster and bf16 inside the matmuls alone 50 %; without it bf16 is slower.
        if wanted == torch.bfloat16 and has_bf16_tiles():
            return Precision(torch.float32, "this CPU has bf16 matrix tiles", narrow_matmuls=True)
        return Precision(torch.float32, f"{options.dtype} is no faster on this CPU")
    if device.type == "mps":
        return Precision(torch.float32, "autocast is hardly faster on MPS")
    if wanted == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(torch.float16, "this GPU has no bf16")
    return Precision(wanted, f"TORCH_DTYPE is {options.dtype}")


def has_bf16_tiles() -> bool:
    """Whether oneDNN multiplies bf16 in hardware here (AMX), several times as fast as fp32."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def configure(options: DeviceOptions) -> None:
    """Set torch's process-wide switches; call it before the first matmul."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_CACHED_KERNELS))
    if options.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    torch.backends.cuda.enable_flash_sdp(options.flash_attention)


def missing_compiler() -> str:
    """The C++ compiler that `torch.compile` would call, if it is not there; else empty."""
    compiler = os.environ.get("CXX", "g++")
    return "" if shutil.which(compiler) else compiler


def prepare_compiler() -> None:
    """Make ready for `torch.compile`: give it a cache that outlives the run. BitnetError without a C++ compiler."""
    if compiler := missing_compiler():
        raise BitnetError(
            f"TORCH_COMPILE=1 needs a C++ compiler, and {compiler} was not found; set TORCH_COMPILE=auto."
        )
    os.environ.setdefault(INDUCTOR_CACHE, str(cache_folder() / "inductor"))
