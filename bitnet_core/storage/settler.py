"""Wait for a disk in a thread while more is put: each time for all that was put meanwhile, if that is enough."""

from collections.abc import Callable

from bitnet_core.storage.sender import Sender
from bitnet_core.storage.target import Target, settle

_TOGETHER = 8
"""Objects to wait for at once, at the least: the disk writes its journal each time."""
_MOST_WAITING = 16
"""Objects that may wait while others are settled: what a power failure costs, and what the system keeps in memory."""


class Settler:
    """Settles objects of `target` in threads of `sender`. Used by the thread that submits to the sender."""

    def __init__(self, target: Target, sender: Sender) -> None:
        self._target = target
        self._sender = sender
        self._waiting: list[tuple[str, Callable[[], object]]] = []
        self._is_settling = False

    def settle(self, key: str, then: Callable[[], object]) -> None:
        """Have an object settled that was put or found, and call `then` when it is. The sender raises what fails."""
        if not self._target.limits.settles:
            then()
            return
        self._waiting.append((key, then))
        self._begin_with(_TOGETHER)

    def make_room(self) -> None:
        """Wait until so few objects are unsettled that another one may be put."""
        while len(self._waiting) >= _MOST_WAITING:
            self._sender.handle_one()

    def drain(self) -> None:
        """Wait for all jobs of the sender, and until all that was put is settled."""
        while True:
            self._begin_with(1)
            if not self._sender.is_busy:
                return
            self._sender.handle_one()

    def _begin_with(self, least: int) -> None:
        if self._is_settling or len(self._waiting) < least:
            return
        together, self._waiting = self._waiting, []
        self._is_settling = True

        def ended(_settled: None) -> None:
            self._is_settling = False
            self._begin_with(_TOGETHER)
            for _, then in together:
                then()

        keys = [key for key, _ in together]
        self._sender.submit(lambda: settle(self._target, keys), 0, ended)
