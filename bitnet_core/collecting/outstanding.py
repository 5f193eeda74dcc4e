"""Which requests of a collection are still to be asked, in what order, and when all answers of a shard are in.

Between the collection (which requests there are) and the journal (the state of each). Asks no teacher.
"""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bitnet_core.collecting.journal import Journal
from bitnet_core.collecting.prompt_check import PromptCheck
from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.errors import BitnetError
from bitnet_core.traces import writer

PromptLength = Callable[[Sequence[Mapping[str, str]]], int]
"""The number of tokens that the teacher reads for a prompt."""


class State(Enum):
    NEW = "new"
    """Never answered."""
    AGAIN = "again"
    """Answered in an earlier run, but with nothing to use: worth asking again."""
    GIVEN_UP = "given up"
    """Answered in `KD_MAX_ATTEMPTS` runs without anything to use; not asked again."""
    REFUSED = "refused"
    """Not answered, and the student's chat template or tokenizer refuses the prompt; never asked."""
    KEPT = "kept"
    """Answered, and the answer is in the journal."""


@dataclass
class Survey:
    """What a walk over all requests found before any was sent."""

    pending: int = 0
    """Requests that are to be asked."""
    kept: int = 0
    """Requests answered in earlier runs."""
    refused: int = 0
    """Requests whose prompt the student's chat template or tokenizer refuses."""
    longest_prompt: int = 1
    """Tokens of the longest pending prompt, where they are measured."""
    foreign: bool = False
    """Whether the folder holds traces that the new set would not contain."""


class Outstanding:
    """The requests still to be asked. Safe for several threads.

    Memory holds those of unfinished shards, and the keys of those that earlier runs asked in vain.
    """

    def __init__(self, collection: Collection, journal: Journal, check: PromptCheck) -> None:
        self._collection = collection
        self._journal = journal
        self._check = check
        self._max_attempts = collection.options.max_attempts
        self._requests: dict[int, list[Request]] = {}
        """By shard: its requests met so far."""
        self._settled: Counter[int] = Counter()
        """By shard: its requests that are not waited for any more."""
        self._surveyed: list[bytes] = []
        """By shard: a digest of its requests, as `survey` found them."""
        self._postponed: set[int] = set()
        """Shards with a request that is asked again at the very end: they are written then, with the rest."""
        self._lock = threading.Lock()

    def state(self, request: Request) -> State:
        standing = self._journal.standing(request.key)
        if standing is not None and standing.status == "ok":
            return State.KEPT
        if standing is not None and standing.attempts >= self._max_attempts:
            return State.GIVEN_UP
        if self._check.refuses(request):
            return State.REFUSED
        return State.NEW if standing is None else State.AGAIN

    def survey(self, traces: Path, prompt_length: PromptLength | None, check_stop: Callable[[], None]) -> Survey:
        """Walk over all requests once. `traces` is their folder; `prompt_length` measures pending prompts."""
        found = Survey()
        self._surveyed = []
        for index, requests in self._collection.requests_by_shard():
            for request in requests:
                check_stop()
                state = self.state(request)
                found.kept += state is State.KEPT
                found.refused += state is State.REFUSED
                if state in (State.NEW, State.AGAIN):
                    found.pending += 1
                    if prompt_length is not None:
                        found.longest_prompt = max(found.longest_prompt, prompt_length(request.prompt.messages))
            keys = [request.key for request in requests]
            self._surveyed.append(_digest(requests))
            found.foreign |= not writer.belongs_to_collection(traces, index, self._collection.config_hash, keys)
        found.foreign |= writer.next_shard_index(traces) > self._collection.shards
        return found

    def require_as_surveyed(self, index: int, requests: Sequence[Request]) -> None:
        """BitnetError if these are not the requests that `survey` found for the shard: their file was changed."""
        if index >= len(self._surveyed) or self._surveyed[index] != _digest(requests):
            options = self._collection.options
            raise BitnetError(
                f"{options.text_file or options.prompts_file} was changed while it was being collected; start again: "
                "what has been answered is kept."
            )

    def requests(self, ended: Callable[[], bool]) -> Iterator[Request]:
        """The requests to ask, until `ended`. Those asked in vain before come last: they are the least promising."""
        again: set[str] = set()  # not told by the journal's times: the clock may have been put back
        for request in self._collection.requests():
            if ended():
                return
            state = self.state(request)
            self._note(request, state)
            if state is State.NEW:
                yield request
            elif state is State.AGAIN:
                again.add(request.key)
            else:
                self.settle(request)
        if again:
            for request in self._collection.requests():
                if ended():
                    return
                if request.key in again and self.state(request) is State.AGAIN:
                    yield request

    def settle(self, request: Request) -> list[Request] | None:
        """Stop waiting for a request. Returns all requests of its shard if this was the last one waited for."""
        index = self._collection.shard_of(request)
        with self._lock:
            if index in self._postponed:
                return None
            self._settled[index] += 1
            if self._settled[index] < self._collection.shard_size(index):
                return None
            del self._settled[index]
            return self._requests.pop(index)

    def _note(self, request: Request, state: State) -> None:
        index = self._collection.shard_of(request)
        with self._lock:
            if state is State.AGAIN:
                self._postponed.add(index)
                self._requests.pop(index, None)
                self._settled.pop(index, None)
            elif index not in self._postponed:
                self._requests.setdefault(index, []).append(request)


def _digest(requests: Sequence[Request]) -> bytes:
    return hashlib.sha256("".join(request.key for request in requests).encode()).digest()
