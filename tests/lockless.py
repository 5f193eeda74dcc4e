"""Makes `flock` fail as it does on a file system without locks; only this host's /tmp keeps them."""

import errno
import fcntl
import os
from collections.abc import Callable


def refusing(number: int = errno.EOPNOTSUPP) -> Callable[[int, int], None]:
    """`flock` on a machine where every file system but that of /tmp answers with this error."""
    real, local = fcntl.flock, os.stat("/tmp")  # noqa: PTH116

    def flock(file: int, operation: int) -> None:
        if not os.path.samestat(os.fstat(file), local):
            raise OSError(number, os.strerror(number))
        real(file, operation)

    return flock


def install() -> None:
    """In a process of its own."""
    fcntl.flock = refusing()  # type: ignore[assignment]
