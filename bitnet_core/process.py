"""Which process is which: pid + start time + boot id name one process for ever; a pid alone gets reused."""

import os
import resource
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

PATIENT_THREADS = {"GOMP_SPINCOUNT": "1000"}
"""For the environment of what computes with OpenMP: wait a little at a barrier, then sleep.

The default spins for milliseconds. As soon as another program wants a core, each barrier then burns what its own
thread needs to get there: training falls to a twentieth of its speed. A thousand turns cost nothing on a machine
that is idle (sleeping at once, `OMP_WAIT_POLICY=passive`, halves the embedded teacher's speed there).
"""
_STATUS = Path("/proc/self/status")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessIdentity:
    """`start` is in clock ticks since boot on Linux, in seconds since 1970 elsewhere."""

    pid: int
    start: float
    boot_id: str
    host: str


def boot_id() -> str:
    if _BOOT_ID.exists():
        return _BOOT_ID.read_text().strip()
    import psutil

    return f"boot-{int(psutil.boot_time())}"


def identify(pid: int) -> ProcessIdentity | None:
    """Name the live process `pid`; None when it is gone or is a zombie (it will never do anything again)."""
    start = _start_time(pid)
    return None if start is None else ProcessIdentity(pid, start, boot_id(), socket.gethostname())


def current() -> ProcessIdentity:
    me = identify(os.getpid())
    if me is None:  # pragma: no cover - a running process has a start time
        raise RuntimeError("this process has no start time")
    return me


def is_alive(identity: ProcessIdentity) -> bool:
    """True when that very process still runs on this host. Say nothing of other hosts with it."""
    return identity.boot_id == boot_id() and _start_time(identity.pid) == identity.start


def rss_bytes(pid: int | None = None) -> int:
    """Resident memory of a process, this one by default; 0 when it is gone."""
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def peak_rss_bytes() -> int:
    """The most memory that was resident in this process since it started.

    On Linux this is VmHWM: unlike ru_maxrss it starts anew with exec, so it never shows the peak of the parent.
    """
    if _STATUS.exists():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _start_time(pid: int) -> float | None:
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The command name may hold spaces and brackets; the fields after its last ")" are plain.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
