"""One fsync of a folder for all threads that wait for one: each costs a commit of the file system's journal."""

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.files import fsync_folder


@dataclass
class _Turns:
    began: int = 0
    ended: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)


class FolderSync:
    """Makes new names in folders durable. Used by several threads."""

    def __init__(self) -> None:
        self._turns: defaultdict[Path, _Turns] = defaultdict(_Turns)
        self._lock = threading.Lock()

    def sync(self, folder: Path) -> None:
        """Return when an fsync that began after this call has ended. OSError if the folder can't be opened."""
        with self._lock:
            turns = self._turns[folder]
        with turns.changed:
            needed = turns.began + 1
            while turns.ended < needed and turns.began > turns.ended:
                turns.changed.wait()
            if turns.ended >= needed:
                return
            turns.began += 1
        try:
            fsync_folder(folder)
        finally:
            with turns.changed:
                turns.ended = turns.began
                turns.changed.notify_all()
