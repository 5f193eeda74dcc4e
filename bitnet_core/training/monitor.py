"""Numbers about a running training: means between two reports, speed, memory. Only a reading waits for the device."""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bitnet_core.model.quant import ternarize
from bitnet_core.model.student import Student

PARTS = ("loss", "kl", "ce", "format", "agreement")


class Meter:
    """Sums of loss parts on the device, and the time spent in steps (evaluations and checkpoints don't count)."""

    def __init__(self) -> None:
        self._sums_5: Tensor | None = None
        self._steps, self._tokens, self._seconds = 0, 0, 0.0

    def add(self, parts_5: Tensor, tokens: int, seconds: float) -> None:
        """Add a completed step; `parts_5` in the order of `PARTS`, already means over the step's batch."""
        self._sums_5 = parts_5 if self._sums_5 is None else self._sums_5.to(parts_5.device) + parts_5
        self._steps += 1
        self._tokens += tokens
        self._seconds += seconds

    def read(self) -> dict[str, float]:
        """Means since the last reading, and supervised tokens per second; empty without a completed step."""
        if self._sums_5 is None:
            return {}
        means = (self._sums_5 / self._steps).tolist()
        found = dict(zip(PARTS, means, strict=True)) | {"tokens_per_s": self._tokens / max(self._seconds, 1e-9)}
        self._sums_5, self._steps, self._tokens, self._seconds = None, 0, 0, 0.0
        return found

    def state(self) -> dict[str, Any]:
        return {
            "sums_5": None if self._sums_5 is None else self._sums_5.cpu(),
            "steps": self._steps,
            "tokens": self._tokens,
            "seconds": self._seconds,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Meter":
        meter = cls()
        meter._sums_5, meter._steps = state["sums_5"], state["steps"]
        meter._tokens, meter._seconds = state["tokens"], state["seconds"]
        return meter


class Stopwatch:
    def __init__(self) -> None:
        self._start = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._start


def memory(device: torch.device) -> dict[str, Any]:
    """Peak resident bytes of this process, and of the device where it has memory of its own."""
    found: dict[str, Any] = {"peak_rss_bytes": peak_rss_bytes()}
    if device.type == "cuda":
        found["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
    return found


def peak_rss_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # Unlike ru_maxrss this starts anew with exec: it never shows the peak of the process that launched us.
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@torch.no_grad()
def zero_weight_fraction(student: Student) -> float:
    """Share of ternary weights that are 0; near 0.31 at initialisation, and a collapse shows as 1."""
    zeros = torch.zeros((), dtype=torch.int64, device=student.output_weight.device)
    total = 0
    for linear in student.bit_linears():
        codes_OI, _scale = ternarize(linear.weight)
        zeros += (codes_OI == 0).sum()
        total += codes_OI.numel()
    return int(zeros) / total
