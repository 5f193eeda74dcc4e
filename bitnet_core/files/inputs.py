"""Reads a small text that the user keeps in a file or hands over in a pipe: a `.env`, a passphrase.

A password manager makes a `.env` a named pipe, and a shell's `<(…)` is one too. A pipe gives its text once, so it is
read once per process and its text is kept in memory. Knows nothing of settings.
"""

import io
import os
import re
import select
import stat
import threading
import time
from pathlib import Path

from bitnet_core.errors import UsageError, explained
from bitnet_core.files.regular import NoWaitReader

MAX_BYTES = 1 << 20
UNOPENED_SECONDS = 10.0
"""How long to wait for a program that opens the other end of a pipe."""
SILENT_SECONDS = 60.0
"""How long to wait for a program that has opened it: it may be asking its user for permission."""
_PAUSE_SECONDS = 0.02
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

_DESCRIPTOR = re.compile(r"/dev/(?:fd/\d+|stdin)|/proc/[^/]+/fd/\d+")

_kept: dict[tuple[Path, int, int], str | UsageError] = {}
"""What each pipe gave, or why it gave nothing."""
_reading = threading.Lock()


def read_input(path: Path) -> str | None:
    """The text of a file or pipe; None if there is nothing at `path`.

    UsageError if it is anything else, can't be read, is too large, or is not UTF-8 text that settings may hold.
    """
    status = _status(path)
    if status is None:
        return None
    if _is_null(status):
        return ""
    if stat.S_ISFIFO(status.st_mode) or is_descriptor(path):
        return _read_once(path, status)
    return _read(path)


def has_to_be_waited_for(path: Path) -> bool:
    """Whether it is a pipe that was not read yet: the program that fills it may ask its user, or not be there."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(status.st_mode) and _place(path, status) not in _kept


def can_be_written(path: Path) -> bool:
    """Whether a text can be kept at `path`: there is a regular file or nothing at all."""
    status = _status(path)
    return status is None or (stat.S_ISREG(status.st_mode) and not is_descriptor(path))


def refuse_to_write(path: Path) -> None:
    """UsageError for a pipe or a device, whose text can't be rewritten."""
    if not can_be_written(path):
        raise UsageError(f"{path} is not a regular file, so it can't be changed here; change what fills it.")


def is_present(path: Path) -> bool:
    """Whether there is anything but a folder at `path`: a file, a pipe, or a link that leads nowhere."""
    return os.path.lexists(path) and not path.is_dir()


def _status(path: Path) -> os.stat_result | None:
    """The status of what can be read at `path`; None if there is nothing at all, UsageError for anything else."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        if not os.path.lexists(path):
            return None
        target = path.readlink()
        raise UsageError(
            f"{path} is a link to {target}, which does not exist; restore that file or remove the link."
        ) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind and not _is_null(status):
        raise UsageError(f"{path} is {kind}, not a file; move it away or correct the path.")
    return status


def _is_null(status: os.stat_result) -> bool:
    """Whether it is /dev/null, which means: no text."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev


def is_descriptor(path: Path) -> bool:
    """Whether it is a file that this process has inherited open: some systems read on where it was left."""
    return _DESCRIPTOR.fullmatch(str(path)) is not None


def _read_once(path: Path, status: os.stat_result) -> str:
    place = _place(path, status)
    if place not in _kept:  # what is known need not wait for another pipe
        with _reading:  # two threads would each get a part of the text
            if place not in _kept:
                try:
                    _kept[place] = _read(path)
                except UsageError as error:
                    _kept[place] = error
    found = _kept[place]
    if isinstance(found, UsageError):
        raise found
    return found


def _place(path: Path, status: os.stat_result) -> tuple[Path, int, int]:
    return path.absolute(), status.st_dev, status.st_ino


def _read(path: Path) -> str:
    try:
        source = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            is_pipe = stat.S_ISFIFO(os.fstat(source).st_mode)
            data = _from_pipe(source, path) if is_pipe else _from_file(source)
        finally:
            os.close(source)
    except OSError as error:
        raise _unreadable(path, error) from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MiB; give a file with nothing but the text in it.")
    return _decoded(data, path)


def _from_file(source: int) -> bytes:
    with NoWaitReader(io.FileIO(os.dup(source))) as file:
        return file.read(MAX_BYTES + 1)


def _from_pipe(source: int, path: Path) -> bytes:
    """Everything until the other end of the pipe is closed, or more than is allowed."""
    waiting, began, data = select.poll(), time.monotonic(), b""
    waiting.register(source, select.POLLIN)
    while len(data) <= MAX_BYTES:
        chunk = _available(source)
        if chunk:
            data += chunk
            continue
        if chunk is not None and data:
            break
        limit = UNOPENED_SECONDS if chunk is not None else SILENT_SECONDS
        left = began + limit - time.monotonic()
        if left <= 0:
            what = "was not written to its end" if data else "gave nothing"
            raise UsageError(f"{path} is a pipe that {what} within {limit:.0f} s; check the program that fills it.")
        if waiting.poll(left * 1000) and chunk is not None:
            time.sleep(_PAUSE_SECONDS)  # closed without a byte: another writer may come
    return data


def _available(source: int) -> bytes | None:
    """What the pipe holds; empty if no program has it open for writing, None if one has and wrote nothing yet."""
    try:
        return os.read(source, 1 << 16)
    except BlockingIOError:
        return None


def _decoded(data: bytes, path: Path) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise UsageError(
            f"{path} has a NUL character in line {line}, which no setting can hold; save it as plain UTF-8 text."
        )
    return text


def _unreadable(path: Path, error: OSError) -> UsageError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):  # it was there when its status was asked for
        return UsageError(f"{path} was removed, or its folder renamed, while it was read; give its place now.")
    return UsageError(f"{path} can't be read {explained(error, 'check the path and its permissions')}.")
