"""Ask a teacher for many answers: who asks next, what each sending may cost, where each answer is kept.

Between the collection (which requests there are) and the journal (what was answered). Writes no shard.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from bitnet_core.errors import BitnetError
from bitnet_core.providers.budget import Budget, LimitReached
from bitnet_core.providers.chat import ChatRequest, ChatResult, ContextExceeded, PromptRefused
from bitnet_core.providers.replies import BadReply
from bitnet_core.providers.teacher import Teacher
from bitnet_core.stages.collection import Request, Sampling
from bitnet_core.traces.journal import Charge, Entry, Journal

_POLL_SECONDS = 0.2
_DRAIN_SECONDS = 8.0
"""A stop waits so long for answers under way: they are paid for. Who wants it faster stops a second time."""
_TRIES = 2
"""An answer that a gateway may have spoilt is asked for once more."""
_REFUSED_IN_A_ROW = 5
"""One prompt that is not taken is that prompt's matter; so many without an answer between are the teacher's."""
_PROBE_KEY = "probe"

OnAnswer = Callable[[Request, Entry, ChatResult | None], Awaitable[None]]


@dataclass
class Ledger:
    """Where sendings are written down, before they happen and when they are over."""

    journal: Journal
    budget: Budget

    def watch(self, request: ChatRequest, key: str = _PROBE_KEY) -> "Sending":
        return Sending(self, key, self.budget.worst(request.messages, request.max_tokens))


class Sending:
    """One request's sendings; see `http.Watch`. Not more than one of them is open at a time."""

    def __init__(self, ledger: Ledger, key: str, worst: Charge) -> None:
        self._ledger = ledger
        self._key = key
        self._worst = worst
        self._open: int | None = None

    async def sent(self) -> None:
        """Raises LimitReached instead of letting anything be sent that might pass a limit."""
        self._ledger.budget.set_aside(self._worst)
        self._open = await asyncio.to_thread(self._ledger.journal.sending, self._key, self._worst)

    async def failed(self, *, replied: bool) -> None:
        """A server that says no charges nothing; one that was not heard from may have."""
        await self._close("failed", Charge(0, 0) if replied else None)

    async def answered(self, result: ChatResult | None) -> None:
        """There was an answer, but none to keep; without one its worst case stays."""
        await self._close("unusable", self._actual(result))

    async def keep(self, entry: Entry, result: ChatResult | None) -> None:
        """Put the answer and its cost into the journal, together."""
        charge = self._actual(result)
        number, self._open = self._open, None
        await asyncio.to_thread(self._ledger.journal.put, self._key, entry, number, charge)
        if number is not None and charge is not None:
            self._ledger.budget.settle(self._worst, charge)

    async def _close(self, state: str, charge: Charge | None) -> None:
        number, self._open = self._open, None
        if number is None:
            return
        await asyncio.to_thread(self._ledger.journal.settle, number, state, charge)
        if charge is not None:
            self._ledger.budget.settle(self._worst, charge)

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
    statuses: Counter[str] = field(default_factory=Counter)
    _refused: int = 0
    """Prompts that were not taken since the last answer."""
    _failure: BaseException | None = None
    _ending: bool = False

    async def run(self, requests: Iterator[Request], parallel: int, check: Callable[[], None]) -> None:
        """Ask for all, `parallel` at most at once.

        Ends early at a limit (see `limit`), at what stops every request, and when `check` raises. Answers under way
        are waited for: they are paid for.
        """
        workers = [asyncio.create_task(self._work(requests)) for _ in range(parallel)]
        try:
            while any(not worker.done() for worker in workers):
                check()
                if self._failure is not None:
                    break
                await asyncio.wait(workers, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._ending = True
            await asyncio.wait(workers, timeout=_DRAIN_SECONDS)
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    async def _work(self, requests: Iterator[Request]) -> None:
        try:
            for request in requests:
                await self._one(request)
                if self._ending or self.limit is not None or self._failure is not None:
                    return
        except LimitReached as reached:
            self.limit = self.limit or reached
        except Exception as error:  # noqa: BLE001 - it is raised again by `run`, after the others' answers are kept
            self._failure = self._failure or error

    async def _one(self, request: Request) -> None:
        """One answer into the journal; what can't be used goes there with its reason."""
        wanted = self.sampling.request(request)
        entry = Entry("", b"")
        result: ChatResult | None = None
        refusal: PromptRefused | None = None
        for _ in range(_TRIES):
            sending = self.ledger.watch(wanted, request.key)
            try:
                result = await self.teacher.chat(wanted, watch=sending)
            except PromptRefused as error:
                entry, refusal = Entry(error.status, error.body), error
                await sending.failed(replied=True)
                break
            except BadReply as error:
                entry = Entry(error.reason, error.body)
                await sending.answered(None)
                if error.passing:
                    continue
                break
            except BitnetError:
                await sending.failed(replied=True)
                raise
            if result.steps is not None:
                entry = Entry("ok", result.body)
            else:
                entry = Entry("no_logprobs", result.body)
                await sending.answered(result)
            break
        await sending.keep(entry, result)
        self.statuses[entry.status] += 1
        await self.on_answer(request, entry, result if entry.status == "ok" else None)
        if refusal is None:
            self._refused = 0
        elif not isinstance(refusal, ContextExceeded):  # whose fault that is, is no question
            self._refused += 1
            if self._refused >= _REFUSED_IN_A_ROW:
                raise refusal
