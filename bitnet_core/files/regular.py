"""Open regular files only, without waiting: a pipe or a device in the place of a file could hang whoever reads it."""

import contextlib
import errno
import io
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_AT_ONCE = 1 << 16


def open_regular(path: Path, *, follow_links: bool = True) -> "NoWaitReader":
    """Open a file to read it. OSError for a folder, a pipe or a device, and for a link that is not to be followed."""
    links = 0 if follow_links else os.O_NOFOLLOW
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | links)
    except ValueError as error:  # a NUL, or half a character that no file's name has
        raise OSError(errno.EINVAL, "its name can't be that of a file", str(path)) from error
    return NoWaitReader(_regular(fd, path))


def open_for_fsync(path: Path) -> io.FileIO:
    """Open a regular file to fsync it, for writing if that is allowed; a link is not followed. OSError.

    Of a file that was opened to be read, Linux ignores the fsync on an SMB share, and other systems refuse it.
    """
    flags = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, os.O_WRONLY | flags)
    except OSError:
        fd = os.open(path, os.O_RDONLY | flags)
    return _regular(fd, path)


def _regular(fd: int, path: Path) -> io.FileIO:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return io.FileIO(fd)


def refuse_special(path: Path) -> None:
    """OSError for a folder, a pipe, a socket or a device, which a file is not to be put in the place of."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, ValueError):
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):  # the rename at the end would fail
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))


class NoWaitReader(io.BufferedReader):
    """Raises OSError where a file that calls itself regular, such as one of /proc, would have to be waited for."""

    def read(self, size: int | None = -1, /) -> bytes:
        data: bytes | None = super().read(size)
        if data is None:
            raise self._would_wait()
        return data

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        filled: int | None = super().readinto(buffer)
        if filled is None:
            raise self._would_wait()
        return filled

    @staticmethod
    def _would_wait() -> OSError:
        return BlockingIOError(errno.EAGAIN, "it is not a regular file: it has to be waited for")


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """The content of a regular file. OSError, also if it is longer than `limit_bytes`."""
    data = bytearray()
    with open_regular(path) as source:
        # Python makes room for as much as is asked for: a small file is to be read also when memory is short.
        while (asked := min(_AT_ONCE, limit_bytes + 1 - len(data))) > 0:
            data += (part := source.read(asked))
            if len(part) < asked:
                break
    if len(data) > limit_bytes:
        limit = f"{limit_bytes >> 20} MiB" if limit_bytes >> 20 else f"{limit_bytes >> 10} KiB"
        raise OSError(errno.EOVERFLOW, f"it is longer than {limit}", str(path))
    return bytes(data)


def version(status: os.stat_result) -> tuple[int, ...]:
    """Differs once a file was written to, replaced, or given other permissions."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
