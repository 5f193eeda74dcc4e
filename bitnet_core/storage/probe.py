"""Check a target by using it: write, read, list and delete a small object, and time each."""

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from bitnet_core.errors import BitnetError
from bitnet_core.storage.state import State
from bitnet_core.storage.target import Refused, Target

_BYTES = 1024
_T = TypeVar("_T")


@dataclass
class Checked:
    """What a check found: the seconds of each call, and the free bytes if the target knows them."""

    place: str
    seconds: dict[str, float] = field(default_factory=dict)
    free_bytes: int | None = None
    note: str = ""


def require_not_gone(place: Target, state: State) -> None:
    """BitnetError where a copy was and nothing is now, as with a disk that is not mounted. Nothing is written."""
    if state.note("manifest") and next(iter(place.list("")), None) is None:
        raise BitnetError(
            f"The copy that was at {place.place} is gone; mount its disk, correct the target's settings, "
            "or make a new copy with `bitnet store push --force`."
        )


def check(target: Target) -> Checked:
    """Use a target as a push would. Refused and Unreachable say what to do; nothing is left behind."""
    found = Checked(target.place)
    key, data = f"bitnet-check/{secrets.token_hex(8)}", secrets.token_bytes(_BYTES)

    def timed(name: str, call: Callable[[], _T]) -> _T:
        began = time.perf_counter()
        result = call()
        found.seconds[name] = time.perf_counter() - began
        return result

    account = timed("look", target.check)
    found.free_bytes, found.note = account.free_bytes, account.note
    try:
        timed("write", lambda: target.put(key, data))
        if timed("read", lambda: target.get(key)) != data:
            raise Refused(f"{target.place} did not return what was written; it can't keep a copy, so choose another.")
        if key not in {one.key for one in timed("list", lambda: list(target.list("bitnet-check/")))}:
            raise Refused(f"{target.place} does not list what was written; give its user the right to list.")
    except BitnetError:
        _clean_up(target, key)
        raise
    timed("delete", lambda: target.delete(key))
    return found


def _clean_up(target: Target, key: str) -> None:
    try:
        target.delete(key)
    except BitnetError:
        return
