"""Whether what a run has open is still there: what is written to a removed file is lost without an error.

Work that must not be lost asks `Presence` when it has written something, and at its end.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from bitnet_core.errors import BitnetError

CUT = "was cut short"
NEW_PLACE = "if it was renamed or moved, give its new place with --root"
"""What to do about an experiment that was removed."""
_REMOVED = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}


class Gone(BitnetError):
    """A file or folder in use was removed or replaced."""


class GoneWithCopy(Gone):
    """As Gone; the sentence also says where its content was saved, or that it can't be."""


@dataclass
class _Watched:
    path: Path
    place: tuple[int, int] | None
    """Device and inode number; None on a file system whose numbers don't last."""
    fix: str
    fd: int | None
    largest: int | None = None
    """The largest size seen of a file that never shrinks; None for any other."""

    def lost(self) -> str:
        """What happened to it; empty while it is there."""
        try:
            now = _place(self.path)
            size = self.path.stat().st_size if self.largest is not None else 0
        except OSError as error:
            return "was removed" if error.errno in _REMOVED else f"can't be reached any more ({error.strerror})"
        if self.place not in (None, now):
            return "was removed or replaced"
        if self.largest is not None and size < self.largest:
            return CUT
        self.largest = None if self.largest is None else size
        return ""


class Presence:
    """Files and folders in use. Use it as a context manager if it opens them."""

    def __init__(self, user: str) -> None:
        """`user` is what uses them, for messages: "collect"."""
        self._user = user
        self._watched: list[_Watched] = []

    def __enter__(self) -> "Presence":
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._watched:
            if one.fd is not None:
                os.close(one.fd)
        self._watched.clear()

    def watch(self, path: Path, fix: str = "start it again", *, held: bool = False, grows: bool = False) -> None:
        """Remember what is at `path` now; `fix` says what to do when it is gone.

        It is opened, so that nothing else gets its inode number. `held`: it is open already, and is not opened again
        because closing any descriptor of a file gives up its record locks. `grows`: it never gets shorter, so one
        that does was cut by another program; that is seen only if nothing was written since.
        """
        fd = None if held else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        now = _place(path)
        lasting = fd is None or now == (os.fstat(fd).st_dev, os.fstat(fd).st_ino)
        self._watched.append(
            _Watched(path, now if lasting else None, fix, fd, path.stat().st_size if grows else None)
        )

    def lost(self) -> str:
        """What happened to the first that is not there any more; empty if all are there."""
        return next((self._sentence(one) for one in self._watched if one.lost()), "")

    def require(self) -> None:
        """Raise `Gone` for the first that was removed, replaced or can't be reached."""
        for one in self._watched:
            if one.lost():
                raise Gone(f"{self._sentence(one)}; {one.fix}.")

    def _sentence(self, one: _Watched) -> str:
        return f"{one.path} {one.lost()} while {self._user} was using it"


def _place(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino
