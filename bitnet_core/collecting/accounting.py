"""Account for every request: written down before it is sent, charged when it ends, stored together with its answer.

Between the budget (what may be spent) and the journal (what a kill can't lose). Sends nothing itself: a teacher calls
a `RequestAccount` as the `Watch` of its request.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from bitnet_core.collecting.budget import Budget, LimitReached
from bitnet_core.collecting.journal import Charge, Journal, Note, StoredAnswer
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.retries import Failure

_POLL_SECONDS = 0.05
PROBE_KEY = "probe"
_NOTHING = Charge(0, 0)

MaskKeys = Callable[[bytes], tuple[bytes, bool]]
"""Masks API keys in a body, and says whether it held any."""


class SendingClosed(Exception):
    """The run has ended: nothing more is sent."""


@dataclass
class Accounts:
    """The accounts of one run's requests."""

    journal: Journal
    budget: Budget
    mask: MaskKeys = lambda body: (body, False)
    overrun_note: str = "beyond"
    """The journal's note in which the budget's overrun is kept for later runs."""
    closed: bool = False
    """Set to end the run: from then on no request is sent."""
    in_flight: "set[RequestAccount]" = field(default_factory=set)
    """Requests whose answer is awaited or being stored."""
    at_once: int | None = None
    """How many the teacher works on together, if more are handed to it than that; the others wait at it."""
    masked: int = 0
    """Answers in which the server had put a key."""

    @property
    def under_way(self) -> int:
        """Requests that the teacher works on now."""
        found = len(self.in_flight)
        return found if self.at_once is None else min(found, self.at_once)

    def open(self, request: ChatRequest, key: str = PROBE_KEY) -> "RequestAccount":
        return RequestAccount(self, key, request)

    def require_open(self) -> None:
        """Raise SendingClosed if nothing more is to be sent."""
        if self.closed:
            raise SendingClosed

    def mask_keys(self, entry: StoredAnswer) -> tuple[StoredAnswer, bool]:
        """The answer as it may be stored, and whether a key had to be masked in it."""
        body, masked = self.mask(entry.body)
        self.masked += masked
        return StoredAnswer(entry.status, body), masked


class RequestAccount:
    """The account of one request, which may be sent several times, but never twice at once."""

    def __init__(self, accounts: Accounts, key: str, request: ChatRequest) -> None:
        self._accounts = accounts
        self._key = key
        self._request = request
        self._worst = _NOTHING
        self._sent: int | None = None
        """The journal's number of the request while it is in flight."""

    async def sent(self) -> None:
        """Reserve the worst case and write it down, before anything is sent.

        Raises LimitReached if it might pass a limit, SendingClosed at the end of the run.
        """
        self._accounts.require_open()
        budget = self._accounts.budget
        self._worst = budget.worst_case(self._request.messages, self._request.max_tokens)
        while not self._reserve():
            await asyncio.sleep(_POLL_SECONDS)
            self._accounts.require_open()
        if self._key != PROBE_KEY:  # the end of a run does not wait for probes
            self._accounts.in_flight.add(self)
        self._sent = await asyncio.to_thread(self._accounts.journal.record_sent, self._key, self._worst)

    async def failed(self, how: Failure) -> None:
        """Close a request without an answer. A refusal costs nothing; what broke may have been billed."""
        state = "unsent" if how is Failure.UNSENT else "failed"
        await self._close(state, None if how is Failure.BROKEN else _NOTHING)

    async def answered(self, result: ChatResult | None) -> None:
        """Close a request whose answer is not stored. If it can't be read, its worst case still counts."""
        await self._close("unusable", self._charge(result))

    async def store(self, entry: StoredAnswer, result: ChatResult | None) -> None:
        """Store the answer and its charge in the journal, in one transaction."""
        charge = self._charge(result)
        sent, self._sent = self._sent, None
        note = self._settle(charge) if sent is not None else None
        await asyncio.to_thread(self._accounts.journal.put, self._key, entry, sent, charge, note)

    def hold(self) -> None:
        """Let the end of the run wait for this request, even if it is not in flight any more."""
        self._accounts.in_flight.add(self)

    def end(self) -> None:
        """Nothing has to wait for this request any more."""
        self._accounts.in_flight.discard(self)

    def _reserve(self) -> bool:
        """Reserve the worst case. False while requests in flight may still turn out cheaper than reserved."""
        try:
            self._accounts.budget.reserve(self._worst)
        except LimitReached:
            if self._accounts.in_flight and not self._accounts.closed:
                return False
            raise
        return True

    async def _close(self, state: str, charge: Charge | None) -> None:
        sent, self._sent = self._sent, None
        if sent is not None:
            note = self._settle(charge, sent=state != "unsent")
            await asyncio.to_thread(self._accounts.journal.close_sent, sent, state, charge, note)
        self.end()

    def _settle(self, charge: Charge | None, *, sent: bool = True) -> Note | None:
        """Replace the worst case by the charge, if known. Returns the note to store if the overrun has grown."""
        budget = self._accounts.budget
        before = budget.overrun
        if charge is not None:
            budget.settle(self._worst, charge, sent=sent)
        return None if budget.overrun == before else (self._accounts.overrun_note, "{} {}".format(*budget.overrun))

    def _charge(self, result: ChatResult | None) -> Charge | None:
        """What the server says the answer cost, at least its tokens that are there; None if it does not say."""
        if result is None or not (result.prompt_tokens and result.counted):
            return None
        tokens = max(result.completion_tokens, len(result.steps or ()))
        return self._accounts.budget.charge(result.prompt_tokens, tokens)
