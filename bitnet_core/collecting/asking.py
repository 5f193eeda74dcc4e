"""Ask a teacher for many answers: who asks next, what each sending may cost, where each answer is kept.

Between the collection (which requests there are) and the journal (what was answered). Writes no shard.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from bitnet_core.collecting.budget import Budget, LimitReached
from bitnet_core.collecting.journal import Charge, Entry, Journal
from bitnet_core.collecting.requests import Request, Sampling
from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.chat import (
    ChatRequest,
    ChatResult,
    ContextExceeded,
    Failing,
    NoLogprobs,
    PromptRefused,
    Unreachable,
)
from bitnet_core.teachers.http.retries import ATTEMPTS, Failure
from bitnet_core.teachers.probe import one_token, patience
from bitnet_core.teachers.refusals import TooManyCandidates, failure_of
from bitnet_core.teachers.teacher import Teacher

_POLL_SECONDS = 0.2
_DRAIN_SECONDS = 8.0
"""A stop waits so long for answers under way: they are paid for. Who wants it faster stops a second time."""
_TRIES = 2
"""An answer that a gateway may have spoilt is asked for once more."""
_REFUSED_IN_A_ROW = 5
"""One prompt that is not taken is that prompt's matter; after so many without an answer it may be the teacher's."""
_REFUSED_AT_MOST = 50
"""So many new ones without an answer between are the teacher's matter, whatever else it answers."""
_FAILURES = 3
"""So often a prompt may fail of which the teacher answers others."""
_FAILED_AT_MOST = 8
"""So many prompts that fail without an answer between are the teacher's matter."""
_OUTAGE_SECONDS = 900.0
"""So long a teacher that answers nobody is waited for."""
_PAUSE_SECONDS = 10.0
_SETTLING_SECONDS = 0.05
_PROBE_KEY = "probe"
NO_ANSWER = "no_answer"
"""The status of a prompt that failed time after time."""

OnAnswer = Callable[[Request, Entry, ChatResult | None], Awaitable[None]]
Mask = Callable[[bytes], tuple[bytes, bool]]
"""Masks keys in a body, and says whether there were any."""


class Closed(Exception):
    """Nothing more is sent."""


@dataclass
class Ledger:
    """Where sendings are written down, before they happen and when they are over."""

    journal: Journal
    budget: Budget
    mask: Mask = lambda body: (body, False)
    closed: bool = False
    under_way: "set[Sending]" = field(default_factory=set)
    """Those that the server is at work on, or whose answer is being kept."""
    masked: int = 0
    """Answers in which the server had put a key."""
    beyond_note: str = "beyond"
    """The journal's note of what the server counts beyond a worst case: known before the next request is sent."""

    def clean(self, entry: Entry) -> tuple[Entry, bool]:
        """The answer as it may be kept, and whether a key had to be masked for that."""
        body, masked = self.mask(entry.body)
        self.masked += masked
        return Entry(entry.status, body), masked

    def watch(self, request: ChatRequest, key: str = _PROBE_KEY) -> "Sending":
        return Sending(self, key, request)


class Sending:
    """One request's sendings; see `retries.Watch`. Not more than one of them is open at a time."""

    def __init__(self, ledger: Ledger, key: str, request: ChatRequest) -> None:
        self._ledger = ledger
        self._key = key
        self._request = request
        self._worst = Charge(0, 0)
        self._open: int | None = None

    async def sent(self) -> None:
        """Raises LimitReached instead of letting anything be sent that might pass a limit, Closed at the end."""
        if self._ledger.closed:
            raise Closed
        budget = self._ledger.budget
        self._worst = budget.worst(self._request.messages, self._request.max_tokens)
        while not self._fits(budget):
            await asyncio.sleep(_SETTLING_SECONDS)
            if self._ledger.closed:
                raise Closed
        if self._key != _PROBE_KEY:  # for whose answer nobody waits at the end
            self._ledger.under_way.add(self)
        self._open = await asyncio.to_thread(self._ledger.journal.sending, self._key, self._worst)

    def _fits(self, budget: Budget) -> bool:
        """Set the worst case aside; False while what others have set aside may still turn out to be less."""
        try:
            budget.set_aside(self._worst)
        except LimitReached:
            if self._ledger.under_way and not self._ledger.closed:
                return False
            raise
        return True

    async def failed(self, how: Failure) -> None:
        """What was refused costs nothing; what broke may have been made, and be billed."""
        if how is Failure.UNSENT:
            await self._take_back()
        else:
            await self._close("failed", Charge(0, 0) if how is Failure.REFUSED else None)
        self.done()

    async def answered(self, result: ChatResult | None) -> None:
        """There was an answer, but none to keep; without one its worst case stays."""
        await self._close("unusable", self._actual(result))
        self.done()

    async def keep(self, entry: Entry, result: ChatResult | None) -> None:
        """Put the answer and its cost into the journal, together."""
        charge = self._actual(result)
        number, self._open = self._open, None
        note = self._settled(charge) if number is not None else None
        await asyncio.to_thread(self._ledger.journal.put, self._key, entry, number, charge, note)

    def done(self) -> None:
        """Nothing of it is under way any more."""
        self._ledger.under_way.discard(self)

    async def _take_back(self) -> None:
        number, self._open = self._open, None
        if number is not None:
            self._ledger.budget.take_back(self._worst)
            await asyncio.to_thread(self._ledger.journal.settle, number, "unsent", Charge(0, 0))

    async def _close(self, state: str, charge: Charge | None) -> None:
        number, self._open = self._open, None
        if number is None:
            return
        await asyncio.to_thread(self._ledger.journal.settle, number, state, charge, self._settled(charge))

    def _settled(self, charge: Charge | None) -> tuple[str, str] | None:
        """Reckon with what it cost; the note of what was learnt from that, to be written down with it."""
        budget = self._ledger.budget
        before = budget.beyond
        if charge is not None:
            budget.settle(self._worst, charge)
        return None if budget.beyond == before else (self._ledger.beyond_note, "{} {}".format(*budget.beyond))

    def _actual(self, result: ChatResult | None) -> Charge | None:
        if result is None or not (result.prompt_tokens and result.counted):
            return None  # it did not say what it counted
        return self._ledger.budget.actual(result.prompt_tokens, result.completion_tokens)


@dataclass
class Asking:
    """What one run has asked for."""

    teacher: Teacher
    sampling: Sampling
    ledger: Ledger
    on_answer: OnAnswer
    limit: LimitReached | None = None
    """Why no more was asked for, where a limit was reached."""
    complaint: BitnetError | None = None
    """What was said of the last prompt that was refused or failed."""
    left: bool = False
    """Whether prompts that failed in an earlier run were left for a later one, for they fail one after the other."""
    statuses: Counter[str] = field(default_factory=Counter)
    _parallel: int = 1
    _refused: int = 0
    """Prompts that were not taken since the last answer; below, those of them that were not before, either."""
    _refused_anew: int = 0
    _failed: int = 0
    """Prompts that failed since the last answer; below, those that brought nothing before, either."""
    _failed_again: int = 0
    _answers: int = 0
    """Signs of life, those included that were asked for as such."""
    _answered_at: float = 0.0
    _failure: BaseException | None = None
    _door: asyncio.Lock = field(default_factory=asyncio.Lock)
    _knocking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self, requests: Iterator[Request], parallel: int, check: Callable[[], None]) -> None:
        """Ask for all, `parallel` at most at once.

        Ends early at a limit (see `limit`), at what stops every request, and when `check` raises. Nothing is sent
        from then on; answers under way are waited for: they are paid for.
        """
        self._answered_at = time.monotonic()
        self._parallel = parallel
        workers = [asyncio.create_task(self._work(requests)) for _ in range(parallel)]
        try:
            while any(not worker.done() for worker in workers):
                check()
                if self._failure is not None:
                    break
                await asyncio.wait(workers, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self.ledger.closed = True
            await self._drain(workers)
        if self._failure is not None:
            raise self._failure

    async def _drain(self, workers: list[asyncio.Task[None]]) -> None:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self.ledger.under_way and time.monotonic() < deadline and any(not worker.done() for worker in workers):
            busy = [worker for worker in workers if not worker.done()]
            await asyncio.wait(busy, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, requests: Iterator[Request]) -> None:
        try:
            while not self.ledger.closed and (request := await self._next(requests)) is not None:
                await self._one(request)
        except Closed:
            return
        except LimitReached as reached:
            self.limit = self.limit or reached
            self.ledger.closed = True
        except Exception as error:  # noqa: BLE001 - it is raised again by `run`, after the others' answers are kept
            self._failure = self._failure or error
            self.ledger.closed = True

    async def _next(self, requests: Iterator[Request]) -> Request | None:
        """In a thread: on the way to the next there may be a million that are answered already."""
        async with self._door:
            return await asyncio.to_thread(next, requests, None)

    async def _one(self, request: Request) -> None:
        """One answer into the journal; what can't be used goes there with its reason."""
        sending = self.ledger.watch(self.sampling.request(request), request.key)
        try:
            entry, result, trouble = await self._asked(request, sending)
            self.ledger.under_way.add(sending)  # what is known now is kept, whatever comes
            before = await asyncio.to_thread(self.ledger.journal.get_status, request.key) if trouble else None
            await self._kept(request, sending, entry, result)
        finally:
            sending.done()
        if trouble is None:
            self._refused = self._refused_anew = self._failed = self._failed_again = 0
        elif not isinstance(trouble, ContextExceeded):  # whose fault that is, is no question
            self.complaint = trouble
            await self._troubled(trouble, before)

    async def _troubled(self, trouble: BitnetError, before: str | None) -> None:
        """A prompt was refused or failed; `before` is how it stood in an earlier run.

        Raises where it is the teacher's matter.
        """
        others = self._parallel - 1  # trouble is quick: those under way may be about to be answered
        if self.left:
            return
        if not isinstance(trouble, PromptRefused):
            self._failed += before is None
            self._failed_again += before is not None
            if self._failed >= _FAILED_AT_MOST + others:
                raise trouble
            if self._failed_again >= _FAILED_AT_MOST + others:
                self.left = self.ledger.closed = True
            return
        self._refused += 1
        self._refused_anew += before != PromptRefused.status
        if self._refused_anew >= _REFUSED_AT_MOST + others:
            raise trouble
        if self._refused % (_REFUSED_IN_A_ROW + others) == 0 and await self._answers_a_token() is False:
            raise trouble

    async def _asked(self, request: Request, sending: Sending) -> tuple[Entry, ChatResult | None, BitnetError | None]:
        """What came of asking, as often as that is worth it; last, why there was no answer."""
        wanted, tries, failures, attempts = self.sampling.request(request), 0, 0, ATTEMPTS
        while True:
            before = self._answers
            try:
                result = await self.teacher.chat(wanted, watch=sending, attempts=attempts)
            except PromptRefused as error:
                await sending.failed(failure_of(error))
                return Entry(error.status, error.body), None, error
            except BadReply as error:
                await sending.answered(None)
                tries += 1
                if not error.retryable or tries >= _TRIES:
                    return Entry(error.reason, error.body), None, self._spoilt(error) if error.from_gateway else None
            except (Failing, Unreachable) as error:
                await sending.failed(failure_of(error))
                await self._until_it_answers(before, error)
                failures += 1
                if failures >= _FAILURES:
                    return Entry(NO_ANSWER, b""), None, error
                attempts = 1  # each may be billed
                await self._pause()
            except (NoLogprobs, TooManyCandidates) as error:
                await sending.failed(failure_of(error))
                # It gave them before: do its words quote the prompt? Raises the same where they do not.
                if not await self._answers_a_token():
                    raise
                return Entry(PromptRefused.status, b""), None, PromptRefused(str(error))
            except BitnetError as error:
                await sending.failed(failure_of(error))
                raise
            else:
                self._lives()
                return Entry("ok" if result.steps is not None else "no_logprobs", result.body), result, None

    def _spoilt(self, error: BadReply) -> Failing:
        return Failing(f"{self.teacher.name} sends what is no answer ({error}); start again later.")

    async def _until_it_answers(self, before: int, failure: BitnetError) -> None:
        """Is it this prompt, or the teacher? Return when it has answered anybody since there were `before` answers.

        While there is none, one of all that wait asks for a single token now and then.
        """
        async with self._knocking:
            while self._answers == before and not await self._answers_a_token():
                if time.monotonic() - self._answered_at > _OUTAGE_SECONDS:
                    raise failure
                await self._pause()

    async def _answers_a_token(self) -> bool | None:
        """False where it refuses even that, None where there is no answer at all."""
        request = one_token(self.sampling.top_logprobs)
        try:
            await self.teacher.chat(request, attempts=1, seconds=patience(self.teacher))
        except PromptRefused:
            return False
        except (Failing, Unreachable):
            return None
        except BadReply as error:
            if error.retryable:
                return None
        self._lives()
        return True

    def _lives(self) -> None:
        self._answers += 1
        self._answered_at = time.monotonic()

    async def _pause(self) -> None:
        await asyncio.sleep(_PAUSE_SECONDS)
        if self.ledger.closed:
            raise Closed

    async def _kept(self, request: Request, sending: Sending, entry: Entry, result: ChatResult | None) -> None:
        entry, masked = self.ledger.clean(entry)
        await sending.keep(entry, result)
        self.statuses[entry.status] += 1
        # What was masked is read again, as it will be from now on.
        await self.on_answer(request, entry, result if entry.status == "ok" and not masked else None)
