"""A lock for file systems without locks: a file that is created exclusively and names its owner.

The file of an owner that has died is taken over. Only processes of the owner's host can see that it has died, so for
an owner elsewhere there is nothing but to wait, and to say who it is.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bitnet_core import process
from bitnet_core.errors import BitnetError, explained
from bitnet_core.files.regular import open_regular

POLL_SECONDS = 0.02
UNFINISHED_SECONDS = 2.0
"""After this time without an owner's name, a file counts as left by a process that died while it wrote it."""
ELSEWHERE_SECONDS = 10.0
ELSEWHERE_REPORTED_SECONDS = 600.0
"""How long to wait for an owner on another host: without, and with a report to the user that this waits."""
_GUARD = Path("/tmp")  # noqa: S108 - nothing is written there; it is a folder of this host that everybody may lock
_NOT_REGULAR = (errno.ELOOP, errno.ENXIO, errno.EINVAL)
"""What `open_regular` says of a link, of a socket, and of a folder, a pipe or a device."""


class HeldElsewhere(BitnetError):
    """The owner is on another host, or in another container, and did not let go."""


@dataclass(frozen=True)
class Owner:
    """A process. `namespace` is that of its pid: containers of one host don't see each other's processes."""

    pid: int
    start: float
    boot_id: str
    host: str
    namespace: str
    token: str
    """Tells two holds of one process apart."""

    @classmethod
    def me(cls) -> "Owner":
        return cls(**dataclasses.asdict(process.current()), namespace=process.namespace(), token=secrets.token_hex(8))

    def is_elsewhere(self) -> bool:
        here = process.current()
        after_reboot = self.host == here.host and self.boot_id != here.boot_id
        return not after_reboot and (self.host, self.namespace) != (here.host, process.namespace())

    def is_alive(self) -> bool:
        """Whether it still runs. True if that can't be seen from here."""
        known = process.ProcessIdentity(self.pid, self.start, self.boot_id, self.host)
        return self.is_elsewhere() or process.is_alive(known) or self._is_hidden()

    def _is_hidden(self) -> bool:
        """Whether it is a process of another user on a machine that shows only one's own."""
        if process.identify(self.pid) is not None or self.boot_id != process.boot_id():
            return False
        try:
            os.kill(self.pid, 0)
        except PermissionError:
            return True
        except (ProcessLookupError, OverflowError):
            return False
        return False


class _Seen(NamedTuple):
    """An owner's file as it was found."""

    inode: int
    content: bytes

    @property
    def owner(self) -> Owner | None:
        """None if it names none: it is being written, or its writer has died."""
        try:
            fields = json.loads(self.content)
            return Owner(int(fields.pop("pid")), float(fields.pop("start")), **{n: str(v) for n, v in fields.items()})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None


@contextlib.contextmanager
def held(path: Path, on_wait: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold the lock that the file `path` is. `on_wait` is called after each failed try, and may raise to give up.

    HeldElsewhere names an owner on another host that does not let go.
    """
    me = Owner.me()
    wait_until_gone(path, on_wait, lambda: _created(path, me))
    try:
        yield
    finally:
        seen = _look(path)
        if seen is not None and seen.owner == me:
            path.unlink(missing_ok=True)


def wait_until_gone(path: Path, on_wait: Callable[[], object] | None, done: Callable[[], bool]) -> None:
    """Return as soon as `done()`. Until then remove the file `path` if its owner is dead, else wait.

    Without `on_wait`, BitnetError when it has waited too long.
    """
    from bitnet_core import files

    first: tuple[_Seen, float] | None = None
    begun = time.monotonic()
    while not done():
        if (seen := _look(path)) is not None:
            if first is None or first[0] != seen:
                first = (seen, time.monotonic())
            waited = time.monotonic() - first[1]
            owner = seen.owner
            is_left = not owner.is_alive() if owner else waited > UNFINISHED_SECONDS
            if not (is_left and _remove(path, seen)):
                _report_wait(path, owner, on_wait, waited)
                if on_wait is None and time.monotonic() - begun > files.LOCK_SECONDS:
                    if owner and owner.is_elsewhere():
                        raise _held_elsewhere(path, owner)
                    raise files.held_too_long(path, owner.pid if owner else None)
        time.sleep(POLL_SECONDS)


def _report_wait(path: Path, owner: Owner | None, on_wait: Callable[[], object] | None, waited: float) -> None:
    try:
        if on_wait is not None:
            on_wait()
    except BitnetError as error:
        if owner and owner.is_elsewhere():
            raise _held_elsewhere(path, owner) from error
        raise
    if (
        owner
        and owner.is_elsewhere()
        and waited > (ELSEWHERE_SECONDS if on_wait is None else ELSEWHERE_REPORTED_SECONDS)
    ):
        raise _held_elsewhere(path, owner)


def _held_elsewhere(path: Path, owner: Owner) -> HeldElsewhere:
    there = f"{owner.host}, in another container" if owner.host == process.current().host else owner.host
    return HeldElsewhere(
        f"{path.parent} is in use by process {owner.pid} on {there}; wait for it or end it there, and if it is gone "
        f"delete {path}."
    )


def _created(path: Path, me: Owner) -> bool:
    """Whether the file could be created and is now ours."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return False
    try:
        os.write(file, json.dumps(dataclasses.asdict(me)).encode())
        os.fsync(file)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)
    # If this process was stopped for seconds, another one may have found the file empty and removed it.
    seen = _look(path)
    return seen is not None and seen.owner == me


def _look(path: Path) -> _Seen | None:
    """The file as it is now; None if there is nothing. BitnetError for a link and for what is not a regular file."""
    try:
        with open_regular(path, follow_links=False) as file:
            return _Seen(os.fstat(file.fileno()).st_ino, file.read(4096))
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            raise BitnetError(f"{path} stands where a lock belongs and is not a regular file; delete it.") from error
        raise BitnetError(f"{path} can't be read {explained(error, 'check who owns it')}.") from error


def _remove(path: Path, dead: _Seen) -> bool:
    """Remove the file of a dead owner, unless it is another's by now. False while another process is at it.

    All processes that see the owner dead are on this host, so a lock of this host lets one after the other look. It
    is not waited for here: anybody may hold it for as long as they like.
    """
    guard = os.open(_GUARD, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _look(path) == dead:
            path.unlink(missing_ok=True)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        raise BitnetError(
            f"{path} is left by a process that is gone and can't be removed {explained(error, 'delete it')}."
        ) from error
    finally:
        os.close(guard)
