"""What of a stored state the next one takes over: all but what is replaced here.

The copy drops checkpoints that newer ones have replaced, and never its newest complete one. It drops what this
machine had and has set aside itself: who opens the copy must go on from what is here. It drops temporary files that
older versions stored. What else is gone here stays.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from bitnet_core.storage.layout import Stored, folders_of, place_before
from bitnet_core.storage.left_out import is_temporary
from bitnet_core.storage.steps import complete_steps, step_of

_PROJECTED = re.compile(r"(data(?:\.|/\.)projected/[^/]+/).+")
PROJECTION = "projection.json"
"""Without it a projection is not complete. A new one replaces the whole folder, and can be made again."""


def projection_of(name: str) -> str:
    """The folder of the projection that a file belongs to, with a slash; empty for any other file."""
    found = _PROJECTED.fullmatch(name)
    return found[1] if found else ""


def set_aside(stored: Mapping[str, Stored], here: Collection[str], had: Collection[str]) -> Iterator[str]:
    """The stored files that this machine `had` and has itself moved to where they no longer count.

    That is a folder in `checkpoints/`, or one beside the traces. A move that is stored already is an older one,
    unless it has the same content.
    """
    moved: dict[str, list[str]] = {}
    for name in {*here, *stored}:
        if before := place_before(name):
            moved.setdefault(before, []).append(name)
    for name in {*stored} & {*had} - {*here}:
        projection = projection_of(name)
        if (projection and f"{projection}{PROJECTION}" in here) or any(
            one not in stored or stored[one].sha256 == stored[name].sha256 for one in moved.get(name, ())
        ):
            yield name


def temporary(stored: Collection[str]) -> Iterator[str]:
    """The stored temporary files: older versions stored what an evaluation exports for itself."""
    return filter(is_temporary, stored)


def replaced(stored: Collection[str], here: Collection[str]) -> Iterator[str]:
    """The stored files of checkpoints that are older than the newest complete one of `here`, and not here."""
    newest = next(iter(complete_steps(here)), -1)
    for name in stored:
        step = step_of(name)
        if name not in here and step is not None and step < newest:
            yield name


def merged(stored: dict[str, Stored], here: dict[str, Stored]) -> dict[str, Stored]:
    """What is stored, with what is here over it. A stored file goes where a folder is now, and vice versa."""
    folders = {folder for name in here for folder in folders_of(name)}
    kept = {
        name: one
        for name, one in stored.items()
        if name not in folders and not any(f in here for f in folders_of(name))
    }
    return {**kept, **here}
