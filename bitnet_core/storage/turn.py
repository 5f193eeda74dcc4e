"""One machine at a time publishes: of two that push at once, the second one sees what the first one has published."""

import contextlib
import threading
from collections.abc import Iterator

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.storage.target import AlreadyThere, Corrupt, NoSuchObject, Target

KEY = "publishing"
ABANDONED_SECONDS = 30.0
"""After that, a turn is taken for that of a machine that was killed. Publishing takes two or three requests."""
_POLL_SECONDS = 0.3


@contextlib.contextmanager
def turn(target: Target, writer: str, stop: threading.Event | None = None) -> Iterator[None]:
    """Wait for the turn to publish, and end it. Where a target's put has no condition, two may have it at once."""
    mine, stop = writer.encode(), stop or threading.Event()
    waited = 0.0
    while not _is_ours(target, mine):
        if waited >= ABANDONED_SECONDS:
            target.put(KEY, mine)
            break
        if stop.wait(_POLL_SECONDS):
            raise Stopped("Storing was stopped; what has arrived is kept, and starting it again continues it.")
        waited += _POLL_SECONDS
    try:
        yield
    finally:
        with contextlib.suppress(BitnetError):  # the next one waits a little, or `gc` finds it
            target.delete(KEY)


def _is_ours(target: Target, mine: bytes) -> bool:
    """Whether it is our turn now; ours may be left from a push that was killed."""
    try:
        target.put(KEY, mine, only_if_absent=True)
    except AlreadyThere:
        with contextlib.suppress(NoSuchObject, Corrupt):
            return target.get(KEY) == mine
        return False
    return True
