"""Ask a teacher for many answers at once: retry what may succeed, store every answer, stop if the teacher fails.

Between the outstanding requests and the journal that keeps the answers. Writes no shard and judges no answer.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from bitnet_core.collecting.accounting import Accounts, RequestAccount, SendingClosed
from bitnet_core.collecting.budget import LimitReached
from bitnet_core.collecting.journal import StoredAnswer
from bitnet_core.collecting.requests import Request
from bitnet_core.collecting.teacher_health import FailureCounts, Reaction
from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import CollectOptions
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.health import TeacherHealth
from bitnet_core.teachers.http.retries import ATTEMPTS, Unreachable
from bitnet_core.teachers.neutral import one_token
from bitnet_core.teachers.refusals import (
    ContextExceeded,
    Failing,
    PromptRefused,
    failure_of,
)
from bitnet_core.teachers.teacher import Teacher

_POLL_SECONDS = 0.2
_DRAIN_SECONDS = 8.0
"""How long a stopped run waits for the answers in flight, which are paid for. A second stop kills the run."""
_MAX_BAD_REPLIES = 2
"""How often a prompt is asked if a gateway may have caused the bad reply."""
_MAX_FAILURES = 3
"""How often a prompt may fail while the teacher answers other requests."""
NO_ANSWER = "no_answer"
"""The status of a prompt that failed every time it was asked."""

OnAnswer = Callable[[Request, StoredAnswer, ChatResult | None], Awaitable[None]]
"""Called with a stored answer, and with its result if the stored body reads the same."""


@dataclass(frozen=True)
class _Outcome:
    """What asking for one answer led to; `error` says why there is no answer."""

    entry: StoredAnswer
    result: ChatResult | None = None
    error: BitnetError | None = None


class Asker:
    """Asks for the answers of one run."""

    def __init__(self, teacher: Teacher, options: CollectOptions, accounts: Accounts, on_answer: OnAnswer) -> None:
        self._teacher = teacher
        self._options = options
        self._accounts = accounts
        self._on_answer = on_answer
        test = one_token(options.top_logprobs, options.sampling)
        self._health = TeacherHealth(teacher, test, accounts.require_open)
        self._failures = FailureCounts(1)
        self._fatal: Exception | None = None
        self._walking = asyncio.Lock()
        self.limit: LimitReached | None = None
        """The limit that ended the run early, if one did."""
        self.last_error: BitnetError | None = None
        """Why the last prompt without an answer has none."""
        self.left_failing = False
        """Whether prompts that failed in an earlier run were left for a later one, because they keep failing."""

    async def run(self, requests: Iterator[Request], parallel: int, check_stop: Callable[[], None]) -> None:
        """Ask for all answers, `parallel` at a time.

        Ends early at a limit (see `limit`), at an error that stops every request, and when `check_stop` raises. Then
        nothing more is sent, and the answers in flight are awaited: they are paid for.
        """
        self._failures = FailureCounts(parallel)
        workers = [asyncio.create_task(self._work(requests)) for _ in range(parallel)]
        try:
            while any(not worker.done() for worker in workers):
                check_stop()
                if self._fatal is not None:
                    break
                await asyncio.wait(workers, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._accounts.closed = True
            await self._drain(workers)
        if self._fatal is not None:
            raise self._fatal

    async def _drain(self, workers: list[asyncio.Task[None]]) -> None:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while self._accounts.in_flight and time.monotonic() < deadline:
            busy = [worker for worker in workers if not worker.done()]
            if not busy:
                break
            await asyncio.wait(busy, timeout=_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _work(self, requests: Iterator[Request]) -> None:
        try:
            while not self._accounts.closed and (request := await self._next(requests)) is not None:
                await self._ask_for_one(request)
        except SendingClosed:
            return
        except LimitReached as reached:
            self.limit = self.limit or reached
            self._accounts.closed = True
        except Exception as error:  # noqa: BLE001 - `run` raises it, once the other workers' answers are stored
            self._fatal = self._fatal or error
            self._accounts.closed = True

    async def _next(self, requests: Iterator[Request]) -> Request | None:
        """The next request, found in a thread: a million answered ones may have to be passed over."""
        async with self._walking:
            return await asyncio.to_thread(next, requests, None)

    # -- one request -------------------------------------------------------------------------------------

    async def _ask_for_one(self, request: Request) -> None:
        """Get one answer into the journal; one that can't be used goes there with its reason."""
        account = self._accounts.open(request.chat_request(self._options), request.key)
        try:
            with contextlib.ExitStack() as held:
                outcome = await self._ask_with_retries(request, account, held)
                account.hold()  # whatever happens now, this outcome is stored
                journal = self._accounts.journal
                status_before = await asyncio.to_thread(journal.get_status, request.key) if outcome.error else None
                await self._store(request, account, outcome)
        finally:
            account.end()
        if outcome.error is None:
            self._failures.reset()
        elif not isinstance(outcome.error, ContextExceeded):  # a prompt that is too long is never the teacher's fault
            self.last_error = outcome.error
            await self._react(outcome.error, status_before)

    async def _ask_with_retries(
        self, request: Request, account: RequestAccount, held: contextlib.ExitStack
    ) -> _Outcome:
        chat_request = request.chat_request(self._options)
        bad_replies, failures, attempts = 0, 0, ATTEMPTS
        while True:
            answers_before = self._health.answers
            held.close()  # of a bad reply before
            try:
                result = await self._teacher.chat(chat_request, watch=account, attempts=attempts, held=held)
            except BadReply as error:
                await account.answered(None)
                bad_replies += 1
                attempts = 1  # each may have been billed
                if not error.retryable or bad_replies >= _MAX_BAD_REPLIES:
                    return _Outcome(StoredAnswer(error.reason, error.body), error=self._failing_gateway(error))
            except BitnetError as error:
                await account.failed(failure_of(error))
                if isinstance(error, PromptRefused):
                    return _Outcome(StoredAnswer(error.status, error.body), error=error)
                if not isinstance(error, Failing | Unreachable):
                    raise
                await self._health.wait_until_answering(answers_before, error)
                failures += 1
                if failures >= _MAX_FAILURES:
                    return _Outcome(StoredAnswer(NO_ANSWER, b""), error=error)
                attempts = 1  # each attempt may be billed
                await self._health.pause()
            else:
                self._health.record_success()
                return _Outcome(
                    StoredAnswer("ok" if result.steps is not None else "no_logprobs", result.body), result
                )

    def _failing_gateway(self, error: BadReply) -> Failing | None:
        """A gateway's reply that is not an answer counts as a failure of the teacher; None for other replies."""
        if not error.from_gateway:
            return None
        return Failing(f"{self._teacher.name} sends replies that are not answers ({error}); start again later.")

    async def _store(self, request: Request, account: RequestAccount, outcome: _Outcome) -> None:
        entry, masked = self._accounts.mask_keys(outcome.entry)
        await account.store(entry, outcome.result)
        # A masked body is read again, as it will be read from the journal.
        await self._on_answer(request, entry, outcome.result if entry.status == "ok" and not masked else None)

    async def _react(self, error: BitnetError, status_before: str | None) -> None:
        """Decide what a prompt without an answer means for the run; raises its error if the teacher is to blame."""
        reaction = self._failures.record(error, status_before)
        if reaction is Reaction.GIVE_UP:
            raise error
        if reaction is Reaction.LEAVE_THE_REST:
            self.left_failing = self._accounts.closed = True
        if reaction is Reaction.TEST_TEACHER and await self._health.answers_a_token() is False:
            raise error
