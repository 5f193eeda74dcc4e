"""Put an object where one may be already: it is left alone if it has the same content. Knows no files."""

import contextlib
from dataclasses import dataclass

from bitnet_core.storage.target import AlreadyThere, Target, holds


@dataclass(frozen=True)
class Stems:
    """Where a file may go: under its own name, empty if that is in use, and under a new one."""

    own: str
    new: str


class Taken(Exception):
    """Other content has the key of a part or of an index."""


def put_new(target: Target, stems: Stems, data: bytes, *, looked_at: bool) -> tuple[str, bool]:
    """Put an object under its own name, or under the new one if different content is there.

    Returns which, and whether it was sent. `looked_at`: it seems to be there, so that is looked at first.
    """
    if stems.own:
        with contextlib.suppress(Taken):
            return stems.own, put_once(target, stems.own, data, shared=True, listed=looked_at)
    target.put(stems.new, data)
    return stems.new, True


def put_once(target: Target, key: str, data: bytes, *, shared: bool, listed: bool) -> bool:
    """Put an object, unless it is there already; returns whether it was sent. Taken if other content is.

    `shared`: another machine may use the key too, so nothing is replaced. `listed`: it seems to be there.
    """
    if listed and holds(target, key, data):
        return False
    if not shared:
        target.put(key, data)
        return True
    try:
        target.put(key, data, only_if_absent=True)
    except AlreadyThere:
        if not holds(target, key, data):
            raise Taken from None
        return False
    return True
