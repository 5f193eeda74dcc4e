"""Errors that are not bugs: a mistake of the user or a failure outside. One sentence names the thing and the fix."""

import errno
import os
import sys
from pathlib import Path

_OTHER_FILE_SYSTEM = "choose a place on another file system, which can do that"
_IN_THE_WAY = {
    errno.EISDIR: "move the folder away that is in the place of a file",
    errno.ENOTDIR: "move the file away that is in the place of a folder",
    errno.EEXIST: "move away what is there",
    errno.ENOTEMPTY: "move away what is there",
}
"""What is about the path, and nothing that permissions or the machine could change."""
_OWN_PACKAGES = ("bitnet_core", "bitnet_tui")
NEWER = "written by a newer version of bitnet-tui; update this one"
"""What is said of a file that is whole, and must not be moved away or made again."""
FREE_MEMORY = "end other programs, or raise the limits on memory and processes (ulimit -v, ulimit -u)"
_FIXES = {
    errno.ENAMETOOLONG: "use a shorter path",
    errno.ELOOP: "its links lead in a circle",
    errno.EROFS: "mount its file system for writing, or choose another place",
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose a place that holds larger ones",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount its file system again",
    errno.ENOTCONN: "mount its file system again",
    errno.ENODEV: _OTHER_FILE_SYSTEM,
    errno.ENOSYS: _OTHER_FILE_SYSTEM,
    errno.EOPNOTSUPP: _OTHER_FILE_SYSTEM,
    errno.ENOLCK: _OTHER_FILE_SYSTEM,
    errno.ENOMEM: FREE_MEMORY,
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close programs that hold many files open",
}


_LONGEST = 20_000
"""Characters of a message. What it quotes from a file or a reply can be of any length."""


class BitnetError(Exception):
    """`str(error)` is the complete message, less the middle of a very long one. It is shown without a traceback."""

    exit_code = 1

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"


class UsageError(BitnetError):
    """The command or the settings are wrong. No work was started."""

    exit_code = 2


class GateFailed(BitnetError):
    """Everything ran, and a result is beyond its limit."""

    exit_code = 3


class Stopped(BitnetError):
    """The user stopped the stage. Its work is kept."""

    exit_code = 130


class NameNotUTF8(BitnetError):
    """A library requires UTF-8 and a file's name is not; its content may be sound."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} can't be opened, as its name is not UTF-8; rename the file or its folder.")


_NO_MEMORY = (
    *("annot allocate memory", "an't allocate memory", "failed to map segment", "std::bad_alloc"),
    *("an't start new thread", "Failed to launch worker thread"),
)
"""How the dynamic loader, the C library, torch, Python and Arrow say it. A thread needs memory for its stack."""


def lacks_memory(error: BaseException) -> bool:
    """Whether memory (or threads) ran out, in whatever shape a library says so."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return not isinstance(error, BitnetError) and any(said in str(error) for said in _NO_MEMORY)


def lacks_package(error: BaseException) -> str:
    """The sentence about a package of others that is not installed or not whole; empty for any other error."""
    if not isinstance(error, ImportError) or not error.name:
        return ""
    name = error.name.partition(".")[0]
    if name in _OWN_PACKAGES:
        return ""
    missing = isinstance(error, ModuleNotFoundError) and error.name == name
    if name in sys.stdlib_module_names:
        what = f"Python at {sys.executable} was built without its module {name}; install bitnet-tui with another one."
        return what if missing else ""
    pip = f"{sys.executable} -m pip install"
    if missing:
        return f"The Python package {name} is not installed; run `{pip} bitnet-tui`, which installs what it lacks."
    from importlib.metadata import packages_distributions  # takes a second, as it reads every package's files

    reason, project = " ".join(str(error).split()), packages_distributions().get(name, ["bitnet-tui"])[0]
    return f"The Python package {name} can't be used ({reason:.200}); run `{pip} --force-reinstall {project}`."


def raise_if_not_the_file(error: BaseException, path: Path) -> None:
    """Raise an error again that says nothing of the file's content: memory, a limit, a permission or the disk.

    Every reader of a file calls it before saying that the file is damaged: else a sound one would be moved away.
    NameNotUTF8 if it could not be opened for that.
    """
    if isinstance(error, UnicodeEncodeError):  # who reads encodes nothing but the name
        raise NameNotUTF8(path) from error
    if lacks_memory(error):
        raise error
    if isinstance(error, OSError) and (is_about_the_machine(error) or error.errno in (errno.EACCES, errno.EPERM)):
        error.filename = error.filename or str(path)
        raise error


def is_about_the_machine(error: OSError) -> bool:
    """Whether the fault is a file system's or a limit of the machine, and no bug."""
    return error.errno in _FIXES


def explained(error: OSError, otherwise: str) -> str:
    """The end of a sentence about a failed call: the reason, and its fix or else the advice `otherwise`."""
    # pyarrow sets the number alone, beside words of its own.
    reason = error.strerror or (os.strerror(error.errno) if error.errno else str(error)) or type(error).__name__
    return f"({reason}); {(_FIXES | _IN_THE_WAY).get(error.errno or 0, otherwise)}"
