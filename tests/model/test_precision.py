"""Which type and device are chosen, and why."""

import pytest
import torch

from bitnet_core.errors import BitnetError
from bitnet_core.model.precision import pick_device, pick_precision
from bitnet_core.settings.values import DeviceOptions, DType

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("wanted", ["bf16", "fp16", "fp32"])
def test_a_cpu_computes_in_fp32_and_says_why(wanted: DType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    chosen = pick_precision(DeviceOptions(dtype=wanted), CPU)
    assert (chosen.name, chosen.autocast, chosen.scaled) == ("fp32", False, False)
    assert "fp32" in chosen.reason if wanted == "fp32" else "CPU" in chosen.reason
    assert pick_precision(DeviceOptions(dtype=wanted, autocast=False), CPU).reason == "USE_AMP is off"


def test_a_cpu_with_matrix_tiles_narrows_only_inside_the_matmuls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    chosen = pick_precision(DeviceOptions(dtype="bf16"), CPU)
    assert (chosen.name, chosen.autocast) == ("fp32 with bf16 matmuls", False)
    assert not pick_precision(DeviceOptions(dtype="fp32"), CPU).narrow_matmuls
    backend = torch.backends.mkldnn.matmul
    before = backend.fp32_precision
    with pytest.raises(KeyError), chosen.matmuls():
        assert backend.fp32_precision == "bf16"
        raise KeyError
    assert backend.fp32_precision == before


def test_a_gpu_without_bf16_gets_fp16_and_a_loss_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    old = pick_precision(DeviceOptions(dtype="bf16"), CUDA)
    assert (old.name, old.scaled) == ("fp16", True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    new = pick_precision(DeviceOptions(dtype="bf16"), CUDA)
    assert (new.name, new.scaled) == ("bf16", False)
    assert pick_precision(DeviceOptions(dtype="fp16"), CUDA).scaled


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device(DeviceOptions()) == CPU
    for wanted in ("cuda", "rocm", "mps"):
        with pytest.raises(BitnetError, match=f"DEVICE_TYPE is {wanted}.*set DEVICE_TYPE=auto"):
            pick_device(DeviceOptions(device=wanted))
        assert pick_device(DeviceOptions(device=wanted, force_cpu=True)) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(DeviceOptions()) == CUDA
