"""The type and the device that are chosen, and why."""

import pytest
import torch

from bitnet_core.config import Settings
from bitnet_core.errors import BitnetError
from bitnet_core.training import precision
from bitnet_core.training.precision import pick_device, pick_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def settings(**values: str) -> Settings:
    return Settings.from_values(values)


def test_a_cpu_computes_in_bf16_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_fast_bf16", lambda: False)
    slow = pick_precision(settings(TORCH_DTYPE="bf16"), CPU)
    assert (slow.name, slow.autocast, slow.scaled) == ("fp32", False, False)
    assert "AMX" in slow.reason
    monkeypatch.setattr(precision, "cpu_has_fast_bf16", lambda: True)
    assert pick_precision(settings(TORCH_DTYPE="bf16"), CPU).name == "bf16"
    assert pick_precision(settings(TORCH_DTYPE="bf16", USE_AMP="0"), CPU).name == "fp32"
    assert pick_precision(settings(TORCH_DTYPE="fp32"), CPU).name == "fp32"


def test_a_gpu_without_bf16_gets_fp16_and_a_loss_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    old = pick_precision(settings(TORCH_DTYPE="bf16"), CUDA)
    assert (old.name, old.scaled) == ("fp16", True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    new = pick_precision(settings(TORCH_DTYPE="bf16"), CUDA)
    assert (new.name, new.scaled) == ("bf16", False)
    assert pick_precision(settings(TORCH_DTYPE="fp16"), CUDA).scaled


def test_a_device_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert pick_device(settings()) == CPU
    for wanted in ("cuda", "rocm", "mps"):
        with pytest.raises(BitnetError, match=f"DEVICE_TYPE is {wanted}.*set DEVICE_TYPE=auto"):
            pick_device(settings(DEVICE_TYPE=wanted))
        assert pick_device(settings(DEVICE_TYPE=wanted, FORCE_CPU="1")) == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device(settings()) == CUDA
