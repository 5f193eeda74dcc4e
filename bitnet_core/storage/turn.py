"""One machine at a time publishes: of two that push at once, the second one sees what the first one has published.

The turn names its holder and the number of the holder's manifest. A request of a machine that was killed or cut off
may still arrive after another one has taken the turn. It then finds a manifest with a higher number and does not
count.
"""

import contextlib
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.storage import manifest as manifests
from bitnet_core.storage.target import AlreadyThere, Corrupt, NoSuchObject, Target

KEY = "publishing"
ABANDONED_SECONDS = 30.0
"""After that, a turn is taken for that of a machine that was killed. Publishing takes two or three requests."""
_POLL_SECONDS = 0.3
_HOLDER = re.compile(rb"([0-9a-f]{1,32}-[0-9a-f]{1,32})-([0-9]{6,12})")
_MOST_SKIPPED = 1000
"""A number that is further away was not written by a push."""


@dataclass
class Turn:
    """A turn to publish the manifest `counter`.

    `late` is the highest number of a manifest that an earlier holder has put, and that may still arrive; 0 if there
    is none. While it would count then, the turn is left to the next one, who must know it.
    """

    counter: int
    is_ours: Callable[[], bool]
    late: int = 0


def fresh_token(writer: str) -> str:
    """Who has a turn: a name that no other push has, not even one from a clone of this machine."""
    return f"{writer}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def turn(
    target: Target, token: str, counter: int, stop: threading.Event | None = None, *, left: str = ""
) -> Iterator[Turn]:
    """Wait for the turn to publish the manifest `counter`, or a higher one, and end it.

    What `left` has is ours too: it is of a push that was killed. Where a target's put has no condition, two may have
    the turn at once.
    """
    stop, late = stop or threading.Event(), 0
    mine = _text(token, counter)
    waited, before = 0.0, b""
    while (holder := _take(target, mine)) != mine:
        waited, before = (waited if holder == before else 0.0), holder
        whose, number = _read(holder, counter)
        if waited >= ABANDONED_SECONDS or whose == (left or None):
            late, counter = max(late, number), max(counter, number + 1)
            mine = _text(token, counter)
            target.put(KEY, mine)  # of several that do so, the last one has it
        elif stop.wait(_POLL_SECONDS):
            raise Stopped("Storing was stopped; what has arrived is kept, and starting it again continues it.")
        waited += _POLL_SECONDS
    held = Turn(counter, lambda: _holder(target) == mine, late)
    try:
        yield held
    finally:
        with contextlib.suppress(BitnetError):  # the next one waits a little, or `gc` finds it
            if held.is_ours() and not _may_count(target, held.late):
                target.delete(KEY)


def _text(token: str, counter: int) -> bytes:
    return f"{token}-{counter:06d}".encode()


def _read(holder: bytes, counter: int) -> tuple[str, int]:
    """Whose turn it is, and the number of the manifest that may arrive from there; ours is `counter`."""
    found = _HOLDER.fullmatch(holder)
    if found is None:
        return "", counter
    number = int(found[2])
    return found[1].decode(), number if number < counter + _MOST_SKIPPED else counter


def _may_count(target: Target, late: int) -> bool:
    """Whether a manifest with this number would be the newest one, or might be."""
    newest = next(iter(manifests.keys(target)), "") if late else ""
    return late > 0 and (manifests.counter_of(newest) or 0) <= late


def _take(target: Target, mine: bytes) -> bytes:
    """Take the turn if nobody has it, and return who has it; ours may be left from a push that was killed."""
    try:
        target.put(KEY, mine, only_if_absent=True)
    except AlreadyThere:
        return _holder(target)
    return mine


def _holder(target: Target) -> bytes:
    with contextlib.suppress(NoSuchObject, Corrupt):
        return target.get(KEY)
    return b""
