"""Says that a file can't be written, before long work whose result would be lost and, in the same words, at its end.

Knows nothing of experiments.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.regular import refuse_special

ELSEWHERE = "choose another place"
_MOUNTS, _FAULT = Path("/proc/self/mountinfo"), "emergency_ro"
_BLOCK = 1 << 12
"""Bytes that are written to try: an empty file can be made on a full disk, too."""


def require_writable(path: Path, otherwise: str = ELSEWHERE) -> None:
    """BitnetError unless a file can be put at `path`; makes its folder. `otherwise` is the advice."""
    with writing(path, otherwise):
        refuse_special(path)
        _try_to_make_a_file(path.parent)


def require_writable_folder(folder: Path, otherwise: str = ELSEWHERE) -> None:
    """BitnetError unless files can be put into `folder`; makes it."""
    with writing(folder, otherwise):
        _try_to_make_a_file(folder)


def is_read_only(path: Path) -> bool:
    """Whether its file system is read-only, by its mount or after a fault of the disk; False where unknown."""
    try:
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return True
        device = path.stat().st_dev
        with _MOUNTS.open(encoding="utf-8", errors="replace") as mounts:  # a kernel may tell a fault nowhere else
            lines = [line.split() for line in mounts if _FAULT in line]
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    return any(line[2] == number and _FAULT in line[-1].split(",") for line in lines)


@contextlib.contextmanager
def writing(path: Path, otherwise: str = ELSEWHERE) -> Iterator[None]:
    """Turn an OSError into the BitnetError that says why `path` can't be written, and what to do."""
    try:
        yield
    except OSError as error:
        raise BitnetError(f"{path} can't be written {explained(error, otherwise)}.") from error


def _try_to_make_a_file(folder: Path) -> None:
    import tempfile

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        file.write(bytes(_BLOCK))
        os.fsync(file.fileno())  # some file systems notice only now
