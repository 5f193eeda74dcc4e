"""Whether the limits on this process leave room for the libraries that compute, asked before each is imported.

Where they don't, OpenBLAS and torch end the process with messages of their own, or crash it. Knows nothing of stages.
"""

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from types import ModuleType

from bitnet_core.errors import BitnetError

_BYTES = {"numpy": 1 << 28, "pyarrow": 1 << 28, "torch": 1 << 30}
"""The address space that a library takes when it is imported and begins to work."""
_MOST_THREADS = 64


def ask_before_imports() -> None:
    """From now on, the first import of a library that computes raises BitnetError where there is no room for it."""
    if not any(isinstance(one, _Gate) for one in sys.meta_path):
        sys.meta_path.insert(0, _Gate())


class _Gate:
    """Finds no module: it only hears which one is imported next."""

    def __init__(self) -> None:
        self._unasked = dict(_BYTES)

    def find_spec(self, name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None) -> None:
        if name in self._unasked:
            require_room(self._unasked[name])
            self._unasked.pop(name, None)


def require_room(size_bytes: int) -> None:
    """BitnetError if a limit keeps this process from `size_bytes` more of address space, or from its threads."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and not _can_map(size_bytes):
        raise BitnetError(
            f"The limit on memory is {limit >> 10} kB (ulimit -v), too little for the libraries that compute; "
            "raise it, or lift it with `ulimit -v unlimited`."
        )
    if not _can_start_threads(min(os.cpu_count() or 1, _MOST_THREADS)):
        raise BitnetError(
            "No thread can be started for the libraries that compute; end other programs, or raise the limits on "
            "processes and memory (ulimit -u, ulimit -v)."
        )


def _can_map(size_bytes: int) -> bool:
    import mmap

    try:
        mmap.mmap(-1, size_bytes).close()  # takes address space, but no memory
    except (OSError, MemoryError):
        return False
    return True


def _can_start_threads(count: int) -> bool:
    """As many at once as the libraries start for this machine's processors."""
    done = threading.Event()
    started: list[threading.Thread] = []
    try:
        for _ in range(count):
            one = threading.Thread(target=done.wait, daemon=True)
            one.start()
            started.append(one)
    except (RuntimeError, MemoryError):
        return False
    finally:
        done.set()
        for one in started:
            with contextlib.suppress(RuntimeError):
                one.join()
    return True
