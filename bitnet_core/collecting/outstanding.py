"""Which requests of a collection are still to be asked, in what order, and which shards that completes.

Between the collection (which requests there are) and the journal (how each of them stands). Asks nobody anything.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum

from bitnet_core.collecting.journal import Journal
from bitnet_core.collecting.requests import Collection, Request


class State(Enum):
    NEW = "new"
    """Never answered."""
    AGAIN = "again"
    """Answered in an earlier run, but with nothing to use."""
    GIVEN_UP = "given up"
    """As AGAIN, in so many runs that another would only cost."""
    KEPT = "kept"


class Outstanding:
    """Holds the requests of those shards alone that are under way. The walk may go on in a thread of its own."""

    def __init__(self, collection: Collection, journal: Journal, attempts: int) -> None:
        """`attempts`: in so many runs an answer is asked for before it is given up."""
        self._collection = collection
        self._journal = journal
        self._attempts = attempts
        self._began = time.time()
        self._met: dict[int, list[Request]] = {}
        self._settled: Counter[int] = Counter()
        self._left: set[int] = set()
        self._lock = threading.Lock()

    def state(self, request: Request) -> State:
        standing = self._journal.standing(request.key)
        if standing is None:
            return State.NEW
        if standing.status == "ok":
            return State.KEPT
        return State.GIVEN_UP if standing.attempts >= self._attempts else State.AGAIN

    def requests(self, ended: Callable[[], bool] = lambda: False) -> Iterator[Request]:
        """What is to be asked, until `ended`. What was asked before in vain comes last: it is the least likely to
        bring anything."""
        postponed = False
        for request in self._collection.requests():
            if ended():
                return
            state = self.state(request)
            postponed |= state is State.AGAIN
            self._meet(request, state)
            if state is State.NEW:
                yield request
            elif state is not State.AGAIN:
                self.settled(request)
        if postponed:
            for request in self._collection.requests():
                if ended():
                    return
                if self.state(request) is State.AGAIN and self._of_earlier_run(request):
                    yield request

    def settled(self, request: Request) -> list[Request] | None:
        """All requests of its shard, when this was the last of them that was waited for."""
        index = self._collection.shard_of(request)
        with self._lock:
            if index in self._left:
                return None
            self._settled[index] += 1
            if self._settled[index] < self._collection.in_shard(index):
                return None
            del self._settled[index]
            return self._met.pop(index)

    def _meet(self, request: Request, state: State) -> None:
        """A shard whose last answers come at the very end is not waited for: it is written then, with the rest."""
        index = self._collection.shard_of(request)
        with self._lock:
            if state is State.AGAIN:
                self._left.add(index)
                self._met.pop(index, None)
                self._settled.pop(index, None)
            elif index not in self._left:
                self._met.setdefault(index, []).append(request)

    def _of_earlier_run(self, request: Request) -> bool:
        standing = self._journal.standing(request.key)
        return standing is not None and standing.at < self._began
