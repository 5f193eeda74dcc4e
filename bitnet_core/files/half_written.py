"""Names of what is being written, files and folders, and the removal of what failed or killed writers leave.

A name says which process writes it. The next writer in a folder removes what dead writers have left there. Knows
nothing of experiments.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_SUFFIX = ".part"
"""Ends the hidden names of files and folders that are being written; none is ever stored."""
_REPLACED = f".old{TEMPORARY_SUFFIX}"
"""Ends the names of folders that are being replaced."""
_PATTERN = f".*{TEMPORARY_SUFFIX}"
_NAME_BYTES = 160
_WORKING_FOLDER, _EXCHANGE = -100, 2
"""AT_FDCWD and RENAME_EXCHANGE of Linux."""


def temp_beside(path: Path) -> Path:
    """A new name beside a path, which says whose it is. What writers that are gone have left there is removed."""
    with contextlib.suppress(OSError):  # a folder that may not be listed
        remove_leftovers(path.parent)
    return _named(path, TEMPORARY_SUFFIX)


def continued_beside(path: Path) -> Path:
    """As `temp_beside`, but what a stopped or killed writer of the same path has left is given the new name."""
    temp = _named(path, TEMPORARY_SUFFIX)
    for left in _half_written(path.parent) if path.parent.is_dir() else ():
        name, writer = _read(left)
        replaced = left.name.endswith(_REPLACED)
        if name == short(path.name) and not replaced and (_is_gone(writer) or writer == _writer(os.getpid())):
            left.rename(temp)
            break
    temp_beside(path)
    return temp


@contextlib.contextmanager
def scratch_beside(path: Path, mode: int = 0o700) -> Iterator[Path]:
    """A folder beside `path`, for as long as the context lasts. It has `mode`, less the umask."""
    import shutil

    folder = temp_beside(path)
    folder.mkdir(mode)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(temp: Path, path: Path) -> None:
    """Give a folder its name. What has that name is removed, or stays as it was if that fails."""
    import shutil

    if path.exists() and _exchanged(temp, path):
        shutil.rmtree(temp, ignore_errors=True)
        return
    old = _named(path, _REPLACED)
    if path.exists():
        path.rename(old)
    try:
        temp.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether each has got the other's name, in one step: even after a kill both are there. Linux can do that."""
    import ctypes

    exchange = getattr(ctypes.CDLL(None), "renameat2", None)
    if exchange is None:
        return False
    failed: int = exchange(_WORKING_FOLDER, os.fsencode(one), _WORKING_FOLDER, os.fsencode(other), _EXCHANGE)
    return not failed


def short(name: str) -> str:
    """The first bytes of a name, so that there is room for more beside them: file systems take 255 bytes."""
    return os.fsencode(name)[:_NAME_BYTES].decode(errors="ignore")


def remove_leftovers(folder: Path, *, below: bool = False) -> list[Path]:
    """Remove what killed writers have left half-written, files and folders, if their host was this one.

    A folder that was being replaced gets its name back, unless the name is taken by now. `below`: in the folders
    below, too. Returns what was removed.
    """
    import shutil

    removed = []
    for left in sorted(folder.rglob(_PATTERN)) if below else _half_written(folder):
        name, writer = _read(left)
        if not _is_gone(writer):
            continue
        with contextlib.suppress(OSError):  # another user's, in a folder for all
            if left.name.endswith(_REPLACED) and not os.path.lexists(left.with_name(name)):
                left.rename(left.with_name(name))
                continue
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
            removed.append(left)
    return removed


def _half_written(folder: Path) -> list[Path]:
    names = os.listdir(folder)  # noqa: PTH208 - before each write: of thousands of files no `Path` is made
    return [folder / one for one in sorted(names) if one[0] == "." and one.endswith(TEMPORARY_SUFFIX)]


def _named(path: Path, suffix: str) -> Path:
    import secrets

    return path.with_name(f".{short(path.name)}.{_writer(os.getpid())}-{secrets.token_hex(4)}{suffix}")


def _read(left: Path) -> tuple[str, str]:
    """The name of what was written, and its writer; any texts for a file that is not ours."""
    name, _, mark = left.name.removesuffix(TEMPORARY_SUFFIX).removesuffix(".old").rpartition(".")
    return name[1:], mark.rpartition("-")[0]


def _writer(pid: int) -> str:
    import hashlib
    import socket

    from bitnet_core import process

    host = hashlib.sha256(f"{socket.gethostname()}{process.namespace()}".encode()).hexdigest()[:8]
    return f"{host}-{pid}"


def _is_gone(writer: str) -> bool:
    """Whether it names a process of this host that does not run any more."""
    from bitnet_core import process

    pid = writer.rpartition("-")[2]
    return pid.isdecimal() and pid.isascii() and writer == _writer(int(pid)) and process.identify(int(pid)) is None
