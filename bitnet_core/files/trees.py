"""Whole folders: how large one is, and removing it. Links in it are never followed."""

import errno
import os
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measured:
    """How many files, links among them, and bytes a folder holds."""

    files: int = 0
    bytes: int = 0


def measure(folder: Path) -> Measured:
    """What can be read of a folder, less what vanishes meanwhile; OSError if the folder itself can't be read."""
    files = total = 0
    waiting = [os.fspath(folder)]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as found:
                for one in found:
                    if one.is_dir(follow_symlinks=False):
                        waiting.append(one.path)
                        continue
                    try:
                        total += one.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue
                    files += 1
        except OSError:
            if place == os.fspath(folder):
                raise
    return Measured(files, total)


def remove(folder: Path) -> OSError | None:
    """Remove a folder, and of a link in it only the link. Goes on after an error, and returns the first."""
    errors: list[OSError] = []

    def note(_function: object, _path: str, raised: tuple[type[BaseException], BaseException, object]) -> None:
        if isinstance(raised[1], OSError) and not isinstance(raised[1], FileNotFoundError):
            errors.append(raised[1])

    try:
        shutil.rmtree(folder, onerror=note)
    except RecursionError:
        errors.append(OSError(errno.ENAMETOOLONG, "its folders are too deep", os.fspath(folder)))
    return errors[0] if errors else None
