"""Which device computes, and in which type. Masters are fp32 everywhere; only autocast's type is chosen here."""

import os
import shutil
from dataclasses import dataclass

import torch

from bitnet_core.config import Settings
from bitnet_core.errors import BitnetError
from bitnet_core.resources import cache_folder

INDUCTOR_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Precision:
    """`dtype` is autocast's; fp32 means no autocast. `reason` is for the log."""

    dtype: torch.dtype
    reason: str

    @property
    def autocast(self) -> bool:
        return self.dtype != torch.float32

    @property
    def scaled(self) -> bool:
        """fp16 gradients underflow without a loss scale; bf16 has fp32's exponents."""
        return self.dtype == torch.float16

    @property
    def name(self) -> str:
        return next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)


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
        # bf16 gains a fifth where a CPU has AMX and loses elsewhere; and oneDNN keeps what it made for every new
        # shape of a bf16 batch: 10 MB a step, measured, until memory is gone.
        return Precision(torch.float32, "bf16 on a CPU gains little and its memory grows with every batch shape")
    if device.type == "mps":
        return Precision(torch.float32, "autocast gains little on MPS")
    if wanted == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        return Precision(torch.float16, "this GPU has no bf16")
    return Precision(wanted, "as TORCH_DTYPE says")


def configure(settings: Settings) -> None:
    """Process-wide switches of torch that the settings name."""
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
