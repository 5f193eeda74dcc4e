"""What of a stored state the next one takes over: all but what is replaced here.

The copy drops checkpoints that newer ones have replaced, and never its newest complete one.
"""

from collections.abc import Collection, Iterator

from bitnet_core.storage.layout import Stored
from bitnet_core.storage.steps import complete_steps, step_of


def replaced(stored: Collection[str], here: Collection[str]) -> Iterator[str]:
    """The stored files of checkpoints that are older than the newest complete one of `here`, and not here."""
    newest = next(iter(complete_steps(here)), -1)
    for name in stored:
        step = step_of(name)
        if name not in here and step is not None and step < newest:
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
