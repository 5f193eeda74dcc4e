"""Put an object where one may be already: it is left alone if it has the same content. Knows no files."""

from dataclasses import dataclass
from typing import Protocol

from bitnet_core.storage.target import AlreadyThere, Corrupt, NoSuchObject, Target, settle


class Put(Protocol):
    """`put` or `put_soon` of a target."""

    def __call__(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None: ...


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
        if looked_at and _holds(target, stems.own, data):
            return _found(target, stems.own), False
        try:
            target.put(stems.own, data, only_if_absent=True)
        except AlreadyThere:
            if _holds(target, stems.own, data):
                return _found(target, stems.own), False
        else:
            return stems.own, True
    target.put(stems.new, data)
    return stems.new, True


def _found(target: Target, key: str) -> str:
    """Make an object durable that is there: who put it may have been killed before it was."""
    settle(target, [key])
    return key


def put_part(target: Target, put: Put, key: str, data: bytes, *, shared: bool, listed: bool) -> bool:
    """`put` a part or an index, unless it is there already; returns whether it was sent. Taken if other content is.

    `shared`: another machine may use the key too, so nothing is replaced. `listed`: it seems to be there.
    """
    if listed and _holds(target, key, data):
        return False
    if not shared:
        put(key, data)
        return True
    try:
        put(key, data, only_if_absent=True)
    except AlreadyThere:
        if not _holds(target, key, data):
            raise Taken from None
        return False
    return True


def _holds(target: Target, key: str, data: bytes) -> bool:
    try:
        return target.get(key) == data
    except (NoSuchObject, Corrupt):
        return False
