"""How the machine of a run stands and what it does, where that can be seen from here. Call it in a thread."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bitnet_core import process
from bitnet_core.runs.health import UNKNOWN_MACHINE, Machine
from bitnet_core.text import finite_in, percent, size_of

_LOAD_SECONDS = 3.0
_ASK_GPU = ("nvidia-smi", "--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits")
_GPU_SECONDS = 2.0
_MIB = float(1 << 20)


def machine(root: Path, host: str) -> Machine:
    """The memory of this machine and the disk of the experiment at `root`; nothing is known of another host."""
    if host != socket.gethostname():
        return UNKNOWN_MACHINE
    free = None
    with suppress(OSError):
        free = float(shutil.disk_usage(root).free)
    return Machine(*process.memory(), free)


@dataclass(frozen=True)
class Gpu:
    """`busy` is the share of the time in which it worked, from 0 to 1; None where that is not told. In bytes."""

    busy: float | None
    used: float
    memory: float


@dataclass(frozen=True)
class Load:
    """What a machine does now. `cpu` is the share of all processors at work, from 0 to 1; None = not known."""

    cpu: float | None = None
    machine: Machine = UNKNOWN_MACHINE
    gpus: tuple[Gpu, ...] = ()

    def words(self) -> Iterator[str]:
        """`memory 6.1/8.3 GB`, `GPU 83%, 61/80 GB`, `CPU 97%`; what is not known is left out.

        Each has room for its largest figure, and `CPU   —` stands where it is known a moment later, so nothing moves.
        """
        free, memory = self.machine.memory_free, self.machine.memory
        if free is not None and memory:
            yield f"memory {size_of(max(0.0, memory - free), memory)}"
        if self.gpus:
            busy = "/".join(_share(one.busy) for one in self.gpus)
            used, memory = sum(one.used for one in self.gpus), sum(one.memory for one in self.gpus)
            yield f"{'GPU' if len(self.gpus) == 1 else 'GPUs'} {busy}, {size_of(used, memory)}"
        if self.machine != UNKNOWN_MACHINE:
            yield f"CPU {_share(self.cpu)}"


@dataclass
class LoadReader:
    """Reads the load of this machine again and again. Not thread-safe."""

    now: Callable[[], float] = time.monotonic
    _load: Load = Load()
    _known: object = None
    _due: float = 0.0
    _times: tuple[float, float] | None = None
    _asks_gpu: bool = True

    def read(self, around: Machine, known: object, *, gpu: bool) -> Load:
        """The load, at most every few seconds, and as it was while `known` stays the same: so what is still is still.

        With `gpu`, that of NVIDIA's GPUs too. One that does not answer in time is not asked again.
        """
        if around == UNKNOWN_MACHINE:
            return Load()
        if known != self._known and self.now() >= self._due:
            self._known, self._due = known, self.now() + _LOAD_SECONDS
            self._load = Load(self._cpu(), around, tuple(self._gpus()) if gpu else ())
        return self._load

    def _cpu(self) -> float | None:
        """The share of the processors' time since the last call in which they worked."""
        import psutil

        try:
            times = psutil.cpu_times()
        except OSError:  # a /proc with processes alone
            return None
        idle, whole = times.idle + getattr(times, "iowait", 0.0), sum(times[: len(times) - _counted_twice(times)])
        before, self._times = self._times, (idle, whole)
        if before is None or whole <= before[1]:
            return None
        return float(min(1.0, max(0.0, 1 - (idle - before[0]) / (whole - before[1]))))

    def _gpus(self) -> Iterator[Gpu]:
        if not self._asks_gpu:
            return
        try:
            said = subprocess.run(
                _ASK_GPU, capture_output=True, text=True, errors="replace", timeout=_GPU_SECONDS, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            self._asks_gpu = False
            return
        for line in said.splitlines():
            busy, used, memory = ([finite_in(word) for word in line.split(",")] + [None] * 3)[:3]
            if used is not None and memory:
                yield Gpu(None if busy is None else busy / 100, used * _MIB, memory * _MIB)


def _counted_twice(times: tuple[float, ...]) -> int:
    """How many of the last figures are part of earlier ones: on Linux, the time of guests is also that of users."""
    return sum(name.startswith("guest") for name in getattr(times, "_fields", ()))


def _share(known: float | None) -> str:
    """`  3%`, ` 97%`, `100%`, all of one width."""
    return f"{'—' if known is None else percent(known, 1):>4}"
