"""One fsync of a folder for all threads that wait for one: each costs a commit of the file system's journal."""

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bitnet_core.files import fsync_folder


@dataclass
class _Turns:
    began: int = 0
    succeeded: int = 0
    """The last one that did."""
    running: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)


class FolderSync:
    """Makes new names in folders durable. Used by several threads."""

    def __init__(self) -> None:
        self._turns: defaultdict[Path, _Turns] = defaultdict(_Turns)
        self._lock = threading.Lock()

    def sync(self, folder: Path) -> None:
        """Return when an fsync that began after this call has succeeded. OSError if the folder can't be opened."""
        with self._lock:
            turns = self._turns[folder]
        with turns.changed:
            needed = turns.began + 1
            while turns.running and turns.succeeded < needed:
                turns.changed.wait()
            if turns.succeeded >= needed:
                return
            turns.began += 1
            turns.running = True
            mine = turns.began
        succeeded = False
        try:
            fsync_folder(folder)
            succeeded = True
        finally:
            with turns.changed:
                turns.running = False
                turns.succeeded = mine if succeeded else turns.succeeded
                turns.changed.notify_all()
