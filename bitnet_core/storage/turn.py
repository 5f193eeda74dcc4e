"""One machine at a time publishes: of two that push at once, the second one sees what the first one has published."""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.storage.target import AlreadyThere, Corrupt, NoSuchObject, Target

KEY = "publishing"
ABANDONED_SECONDS = 30.0
"""After that, a turn is taken for that of a machine that was killed. Publishing takes two or three requests."""
_POLL_SECONDS = 0.3


def fresh_token(writer: str) -> str:
    """Who has a turn: a name that no other push has, not even one from a clone of this machine."""
    return f"{writer}-{secrets.token_hex(4)}"


@contextlib.contextmanager
def turn(
    target: Target, token: str, stop: threading.Event | None = None, *, left: str = ""
) -> Iterator[Callable[[], bool]]:
    """Wait for the turn to publish, and end it. Yields what says whether it is still ours, or was taken over.

    What `left` has is ours too: it is of a push that was killed. Where a target's put has no condition, two may have
    the turn at once.
    """
    mine, stop = token.encode(), stop or threading.Event()
    waited, before = 0.0, b""
    while (holder := _take(target, mine)) != mine:
        waited, before = (waited if holder == before else 0.0), holder
        if waited >= ABANDONED_SECONDS or holder == (left.encode() or None):
            target.put(KEY, mine)  # of several that do so, the last one has it
        elif stop.wait(_POLL_SECONDS):
            raise Stopped("Storing was stopped; what has arrived is kept, and starting it again continues it.")
        waited += _POLL_SECONDS
    try:
        yield lambda: _holder(target) == mine
    finally:
        with contextlib.suppress(BitnetError):  # the next one waits a little, or `gc` finds it
            if _holder(target) == mine:
                target.delete(KEY)


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
