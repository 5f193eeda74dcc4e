"""What of a stored state the next one takes over: all but what is replaced here.

The copy drops checkpoints that newer ones have replaced, and never its newest complete one.
"""

import re
from collections.abc import Collection, Iterator

from bitnet_core.storage.layout import Stored

_CHECKPOINT = re.compile(r"checkpoints/mini_bitnet_step_(\d{8,18})(\.pt|_health\.json)")
_FILES = {".pt", "_health.json"}
"""What a complete checkpoint has."""


def replaced(stored: Collection[str], here: Collection[str]) -> Iterator[str]:
    """The stored files of checkpoints that are older than the newest complete one of `here`, and not here."""
    kinds: dict[int, set[str]] = {}
    for name in here:
        if found := _CHECKPOINT.fullmatch(name):
            kinds.setdefault(int(found[1]), set()).add(found[2])
    newest = max((step for step, which in kinds.items() if which == _FILES), default=-1)
    for name in stored:
        if name not in here and (found := _CHECKPOINT.fullmatch(name)) and int(found[1]) < newest:
            yield name


def merged(stored: dict[str, Stored], here: dict[str, Stored]) -> dict[str, Stored]:
    """What is stored, with what is here over it. A stored file goes where a folder is now, and vice versa."""
    folders = {folder for name in here for folder in _folders_of(name)}
    kept = {
        name: one
        for name, one in stored.items()
        if name not in folders and not any(f in here for f in _folders_of(name))
    }
    return {**kept, **here}


def _folders_of(name: str) -> Iterator[str]:
    while name := name.rpartition("/")[0]:
        yield name
