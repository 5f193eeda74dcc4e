"""Errors that are not bugs: a mistake of the user or a failure outside. One sentence names the thing and the fix."""

import errno

_OTHER_FILE_SYSTEM = "choose a place on another file system, which can do that"
_FIXES = {
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ELOOP: "its links lead in a circle",
    errno.EROFS: "choose a place that can be written to",
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EFBIG: "choose a place for larger files",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount its file system again",
    errno.ENOTCONN: "mount its file system again",
    errno.ENODEV: _OTHER_FILE_SYSTEM,
    errno.ENOSYS: _OTHER_FILE_SYSTEM,
    errno.EOPNOTSUPP: _OTHER_FILE_SYSTEM,
    errno.ENOLCK: _OTHER_FILE_SYSTEM,
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close programs that hold many files open",
}


class BitnetError(Exception):
    """`str(error)` is the complete message. It is shown as it is, without a traceback."""

    exit_code = 1


class UsageError(BitnetError):
    """The command or the settings are wrong. No work was started."""

    exit_code = 2


class GateFailed(BitnetError):
    """Everything ran, and a result is beyond its limit."""

    exit_code = 3


class Stopped(BitnetError):
    """The user stopped the stage. Its work is kept."""

    exit_code = 130


def is_about_the_machine(error: OSError) -> bool:
    """Whether the fault is a file system's or a limit of the machine, and no bug."""
    return error.errno in _FIXES


def explained(error: OSError, otherwise: str) -> str:
    """The end of a sentence about a failed call: the reason, and its fix or else the advice `otherwise`."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"({reason}); {_FIXES.get(error.errno or 0, otherwise)}"
