"""How the machine of a run stands: memory and disk, where that can be seen from here. Call it in a thread."""

import shutil
import socket
from contextlib import suppress
from pathlib import Path

from bitnet_core import process
from bitnet_core.runs.health import UNKNOWN_MACHINE, Machine


def machine(root: Path, host: str) -> Machine:
    """The memory of this machine and the disk of the experiment at `root`; nothing is known of another host."""
    if host != socket.gethostname():
        return UNKNOWN_MACHINE
    free = None
    with suppress(OSError):
        free = float(shutil.disk_usage(root).free)
    return Machine(process.available_bytes(), process.memory_bytes(), free)
