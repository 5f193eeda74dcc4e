"""Which device computes, and in which type. Masters are fp32 everywhere; only autocast's type is chosen here."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.files import cache_folder
from bitnet_core.settings.resolved import Settings

INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_MATMUL_KERNELS = 64
"""Of oneDNN's at a time. A student's step has about 30 shapes; the default of 1024 keeps those of every batch."""


@dataclass(frozen=True)
class Precision:
    """`dtype` is autocast's; fp32 means no autocast. `reason` is for the log.

    With `narrow_matmuls` fp32 tensors are multiplied in bf16 and summed in fp32, inside oneDNN.
    """

    dtype: torch.dtype
    reason: str
    narrow_matmuls: bool = False

    @property
    def autocast(self) -> bool:
        return self.dtype != torch.float32

    @property
    def scaled(self) -> bool:
        """fp16 gradients underflow without a loss scale; bf16 has fp32's exponents."""
        return self.dtype == torch.float16

    @property
    def name(self) -> str:
        name = next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)
        return f"{name} with bf16 matmuls" if self.narrow_matmuls else name

    @contextmanager
    def matmuls(self) -> Iterator[None]:
        """Forward and backward passes inside it multiply fp32 tensors as this says."""
        backend = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        before = backend.fp32_precision
        if self.narrow_matmuls:
            backend.fp32_precision = "bf16"
        try:
            yield
        finally:
            backend.fp32_precision = before


def pick_device(settings: Settings) -> torch.device:
    """The device that the settings ask for, or the best one there is; BitnetError if the asked one is absent."""
    wanted = "cpu" if settings.bool("FORCE_CPU") else settings.text("DEVICE_TYPE")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and torch.version.hip is None,
        "rocm": torch.cuda.is_available() and torch.version.hip is not None,
        "mps": torch.backends.mps.is_available(),
    }
    if wanted == "cuda" and torch.cuda.is_available():
        return torch.device("cuda")
    if not there[wanted]:
        raise BitnetError(f"DEVICE_TYPE is {wanted}, but torch finds no such device; set DEVICE_TYPE=auto.")
    return torch.device("cuda" if wanted == "rocm" else wanted)


def pick_precision(settings: Settings, device: torch.device) -> Precision:
    """Autocast's type: what the settings ask for where the device gains by it, fp32 otherwise."""
    wanted = _DTYPES[settings.text("TORCH_DTYPE")]
    if not settings.bool("USE_AMP"):
        return Precision(torch.float32, "USE_AMP is off")
    if wanted == torch.float32:
        return Precision(torch.float32, "TORCH_DTYPE is fp32")
    if device.type == "cpu":
        # Autocast to bf16 gains a fifth here and loses where there is no AMX; narrowing inside the matmul gains half.
        if wanted == torch.bfloat16 and has_bf16_tiles():
            return Precision(torch.float32, "this CPU has bf16 matrix tiles", narrow_matmuls=True)
        return Precision(torch.float32, f"{settings.text('TORCH_DTYPE')} gains nothing on this CPU")
    if device.type == "mps":
        return Precision(torch.float32, "autocast gains little on MPS")
    if wanted == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(torch.float16, "this GPU has no bf16")
    return Precision(wanted, "as TORCH_DTYPE says")


def has_bf16_tiles() -> bool:
    """Whether oneDNN multiplies bf16 in hardware here (AMX), several times as fast as fp32."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def configure(settings: Settings) -> None:
    """Process-wide switches of torch that the settings name; before the first matmul."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_MATMUL_KERNELS))
    if settings.bool("DETERMINISTIC"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    if settings.bool("TORCH_COMPILE"):
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None:
            raise BitnetError(
                f"TORCH_COMPILE=1 needs a C++ compiler, and there is no {compiler}; set TORCH_COMPILE=0."
            )
        os.environ.setdefault(INDUCTOR_CACHE, str(cache_folder() / "inductor"))
    torch.backends.cuda.enable_flash_sdp(settings.bool("ENABLE_FLASH_ATTN"))
