"""Files that are complete or absent (temp file, fsync, rename), file locks, and packaged files.

Knows nothing of experiments.
"""

import contextlib
import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bitnet_core.errors import BitnetError, NameNotUTF8, explained
from bitnet_core.files.half_written import temp_beside
from bitnet_core.files.regular import open_for_fsync, open_regular, read_bounded, refuse_special
from bitnet_core.files.repeated import Repeated, refuse_repeats
from bitnet_core.text import is_utf8

_LOCK_POLL_SECONDS = 0.02
LOCK_SECONDS = 10.0
"""How long to wait for a lock that is only ever held for a moment."""
_JSON_BYTES = 1 << 24
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EBADF}
"""What flock says on file systems without locks; EBADF is NFS's answer for a folder."""
_held: set[tuple[int, int, int]] = set()
"""Threads, and the device and inode number of the folders that they hold."""
_PACKAGE = Path(__file__).parents[1]
_ASSETS = _PACKAGE / "assets" if (_PACKAGE / "assets").is_dir() else _PACKAGE.parent / "assets"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temp path in the folder of `path`. On success it is fsynced and renamed to `path`, on error removed.

    OSError at once for a folder, and for a pipe or a device: it would be replaced by a file, even /dev/null.
    """
    refuse_special(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = temp_beside(path)
    try:
        yield temp
        with open_for_fsync(temp) as written:
            os.fsync(written.fileno())
        temp.replace(path)
        fsync_folder(path.parent)
    finally:
        temp.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, on_wait: Callable[[], object] | None = None, mode: int = 0o666) -> Iterator[str]:
    """Hold an exclusive lock on a file that is created if missing.

    The kernel releases the lock when its owner dies. `on_wait` is called after each failed try: it may report, or
    raise to give up. Without it, BitnetError after 10 s names the lock and, if known, the process that holds it.

    On a file system without locks a file that names its owner is the lock (`owner_file.py`); then this yields a
    sentence that says so, else an empty text. HeldElsewhere if an owner on another host does not let go of it.
    """
    from bitnet_core.files import owner_file

    own = path.with_name(f"{path.name}.owner")
    fd = os.open(path, os.O_RDWR | os.O_CREAT, mode)
    try:
        if _kernel_locked(fd, on_wait or _give_up_late(path, fd)):
            # Where a lock works now and did not before, or works for one host and not for another.
            owner_file.wait_until_gone(own, on_wait, lambda: not os.path.lexists(own))
            yield ""
        else:
            with owner_file.held(own, on_wait):
                yield f"The file system of {own.parent} has no locks; {own.name} is used instead."
    finally:
        os.close(fd)


class FolderGone(BitnetError):
    """A folder in which something was to be changed is not there any more."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} was renamed or removed meanwhile; nothing was changed, so look where it is now.")


@contextlib.contextmanager
def folder_held(folder: Path, *, moving: bool = False) -> Iterator[None]:
    """Hold a folder's lock while something in it is changed, or it is itself renamed or removed (`moving`).

    FolderGone if it is not there, or not there any more once it is held. BitnetError after 10 s. Where it can't be
    locked, the change is made without a lock. A thread may hold it twice: a link may lead there again.
    """
    from bitnet_core.files import owner_file

    with contextlib.ExitStack() as stack:
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FolderGone(folder) from error
        except OSError:  # it may be entered, and not listed
            yield
            return
        stack.callback(os.close, fd)
        own, status = folder / ".lock.owner", os.fstat(fd)
        holder = threading.get_ident(), status.st_dev, status.st_ino
        if holder in _held:
            yield
            return
        _held.add(holder)
        stack.callback(_held.remove, holder)
        with contextlib.suppress(OSError):
            if _kernel_locked(fd, _give_up_late(folder, fd)):
                owner_file.wait_until_gone(own, None, lambda: not os.path.lexists(own))
            elif not moving:  # it would go with the folder
                stack.enter_context(owner_file.held(own, None))
        if not is_at(folder, fd):
            raise FolderGone(folder)
        yield


@contextlib.contextmanager
def folder_watched(folder: Path) -> Iterator[None]:
    """For reading many files of a folder: FolderGone if it is gone at the end, whichever was missing first."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FolderGone(folder) from error
    try:
        with _still_at(folder, fd, FolderGone):
            yield
    finally:
        os.close(fd)


class FileReplaced(BitnetError):
    """Another file, or none, is at a path from which one was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} was removed or replaced while it was being read; try again.")


@contextlib.contextmanager
def file_watched(path: Path) -> Iterator[None]:
    """For reading a file more than once: FileReplaced if another one, or none, is at its path at the end.

    OSError if it can't be opened or is not a regular file.
    """
    with open_regular(path) as source, _still_at(path, source.fileno(), FileReplaced):
        yield


@contextlib.contextmanager
def _still_at(path: Path, fd: int, gone: Callable[[Path], BitnetError]) -> Iterator[None]:
    """`gone` at the end if what is open is not at its path any more: whatever was raised, that is why."""
    try:
        yield
    except Exception as error:
        if not is_at(path, fd):
            raise gone(path) from error
        raise
    if not is_at(path, fd):
        raise gone(path)


def is_at(path: Path, fd: int) -> bool:
    """Whether what is open is still what is at its path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False


def _give_up_late(path: Path, fd: int) -> Callable[[], None]:
    """Raises when it is called after LOCK_SECONDS."""
    deadline = time.monotonic() + LOCK_SECONDS

    def give_up() -> None:
        if time.monotonic() > deadline:
            raise held_too_long(path, _holder(fd))

    return give_up


def held_too_long(path: Path, holder: int | None) -> BitnetError:
    who = f"process {holder}" if holder else "another process"
    return BitnetError(f"{path} is held by {who}, which does not let go of it; end that, or try again later.")


def _holder(fd: int) -> int | None:
    """The process that holds the kernel's lock on a file. None if that can't be told."""
    found = os.fstat(fd)
    file = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 fd:00:1234 0 EOF
            if words[1] == "FLOCK" and words[5] == file:
                return int(words[4]) if int(words[4]) > 0 else None
    return None


def _kernel_locked(fd: int, on_wait: Callable[[], object]) -> bool:
    """Wait for the kernel's lock. False if the file system has none."""
    try:
        _poll_lock(fd, on_wait)
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            return False
        raise
    return True


def _poll_lock(fd: int, on_wait: Callable[[], object]) -> None:
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            time.sleep(_LOCK_POLL_SECONDS)


def fsync_folder(folder: Path) -> None:
    # Without this a power failure may undo the rename. Some network file systems refuse it, which is no harm.
    fd = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(fd)
    finally:
        os.close(fd)


def new_dated_folder(parent: Path, name: str = "") -> Path:
    """Make a folder named after this moment (UTC) and `name`, with a number where there is one of that name."""
    stem = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()) + (f"-{name}" if name else "")
    folder, number = parent / stem, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
            folder = parent / f"{stem}-{number}"


def write_bytes(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write a complete file. It has `mode`, less the umask, from the moment it exists."""
    with atomic_path(path) as temp, os.fdopen(os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
        out.write(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON. ValueError for NaN and infinity, which are a bug of the caller."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """What `write_json` writes."""
    import json

    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def is_file(path: Path) -> bool:
    """Whether there is a regular file; False too for a path that can't be looked at, or is too long."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def real_path(path: Path) -> Path:
    """The path without links, as far as they lead: `Path.resolve` fails before Python 3.13 where they lead round."""
    return Path(os.path.realpath(path))


def matching(folder: Path, pattern: str) -> list[Path]:
    """What a folder holds of such names, in order; nothing if it is not there. BitnetError if it can't be listed.

    `Path.glob` finds nothing then, and a closed folder would count as an empty one.
    """
    import fnmatch

    try:
        names = (path.name for path in folder.iterdir())
        return [folder / name for name in sorted(fnmatch.filter(names, pattern))]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BitnetError(f"{folder} can't be read {explained(error, 'check its permissions')}.") from error


def require_regular(path: Path) -> None:
    """BitnetError for a pipe, a socket or a device: reading it could wait for ever, and gives its content once."""
    if not path.is_file() and not path.is_dir() and path.exists():
        raise BitnetError(f"{path} is a pipe or a device; give a regular file.")


def utf8_name(path: Path) -> str:
    """The path as text for a library that requires UTF-8. NameNotUTF8 if it is not UTF-8."""
    if not is_utf8(str(path)):
        raise NameNotUTF8(path)
    return str(path)


def read_json(path: Path) -> Any:
    """Read a JSON file. BitnetError if it is missing, unreadable, longer than 16 MiB, not JSON, or repeats a name."""
    try:
        require_regular(path)
        text = read_bounded(path, _JSON_BYTES).decode()
        import json  # not for a file that is not there, as on the way to the first paint

        return json.loads(text, object_pairs_hook=refuse_repeats)
    except FileNotFoundError as error:
        raise BitnetError(f"{path} does not exist.") from error
    except OSError as error:
        raise BitnetError(
            f"{path} can't be read {explained(error, 'check its permissions, or move it away')}."
        ) from error
    except Repeated as error:
        raise BitnetError(f"{path} is damaged: {error}; move it away and run the stage again.") from error
    except (ValueError, RecursionError) as error:
        raise BitnetError(f"{path} is not valid JSON; move it away and run the stage again.") from error


def sha256_file(path: Path) -> str:
    """OSError too for a pipe or a device, which may never end."""
    import hashlib

    with open_regular(path) as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def asset(*parts: str) -> Path:
    """The path of a packaged file, such as `asset("demo.env")`."""
    return _ASSETS.joinpath(*parts)
