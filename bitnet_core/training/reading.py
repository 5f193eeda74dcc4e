"""Choosing a checkpoint and reading it while a training writes new ones and removes old ones."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bitnet_core.files import FileReplaced
from bitnet_core.training.checkpoints import Missing

_T = TypeVar("_T")
_TRIES = 5


def read_chosen(choose: Callable[[], Path], read: Callable[[Path], _T]) -> tuple[Path, _T]:
    """A checkpoint and what `read` returns of it; one that is gone before it has been read is chosen again.

    Raises what the two raise; Missing or FileReplaced if that happens each time.
    """
    for _ in range(_TRIES - 1):
        path = choose()
        try:
            return path, read(path)
        except (FileReplaced, Missing):
            continue
    path = choose()
    return path, read(path)
