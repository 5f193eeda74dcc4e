"""Whether the teacher still answers, and whether it or the prompts are to blame for missing answers.

A prompt can be refused (a filter) or fail (the server breaks on it). One such prompt is passed over; many without an
answer between them mean that the teacher is the problem, or that the rest is better left for a later run. Knows
nothing of what prompts and answers say.
"""

import asyncio
import time
from enum import Enum, auto

from bitnet_core.collecting.accounting import Accounts, SendingClosed
from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import CollectOptions
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.http.retries import Unreachable
from bitnet_core.teachers.neutral import few_tokens_seconds, one_token
from bitnet_core.teachers.refusals import Failing, PromptRefused
from bitnet_core.teachers.teacher import Teacher

_OUTAGE_SECONDS = 900.0
"""How long to wait for a teacher that has stopped responding."""
_PAUSE_SECONDS = 10.0
"""The time between two requests to a teacher that does not respond."""
REFUSALS_TO_TEST = 5
"""After this many refusals without an answer between them, the teacher is tested with a request of one token."""
MAX_NEW_REFUSALS = 50
"""This many refusals of prompts that were not refused before, without an answer between them, end the run."""
MAX_FAILED_PROMPTS = 8
"""This many failing prompts without an answer between them end the run, or leave the rest for a later one."""


class Reaction(Enum):
    """What the run does after a prompt without an answer."""

    CONTINUE = auto()
    TEST_TEACHER = auto()
    """Ask for one token: a teacher that refuses even that refuses everything."""
    LEAVE_THE_REST = auto()
    """Ask no more: all these prompts failed in an earlier run, too."""
    GIVE_UP = auto()


class FailureCounts:
    """Prompts without an answer since the last answer."""

    def __init__(self, parallel: int) -> None:
        # Failures come faster than answers: as many answers may be on their way as there are other requests.
        self._in_flight = parallel - 1
        self._leaving = False
        self.reset()

    def reset(self) -> None:
        """An answer came: whatever failed before was about its prompt."""
        self._refused = self._newly_refused = 0
        self._newly_failed = self._failed_again = 0

    def record(self, error: BitnetError, status_before: str | None) -> Reaction:
        """Count a prompt without an answer. `status_before` is its status in an earlier run, None for a new one."""
        if self._leaving:
            return Reaction.CONTINUE
        if isinstance(error, PromptRefused):
            self._refused += 1
            self._newly_refused += status_before != PromptRefused.status
            if self._newly_refused >= MAX_NEW_REFUSALS + self._in_flight:
                return Reaction.GIVE_UP
            test = self._refused % (REFUSALS_TO_TEST + self._in_flight) == 0
            return Reaction.TEST_TEACHER if test else Reaction.CONTINUE
        self._newly_failed += status_before is None
        self._failed_again += status_before is not None
        if self._newly_failed >= MAX_FAILED_PROMPTS + self._in_flight:
            return Reaction.GIVE_UP
        if self._failed_again >= MAX_FAILED_PROMPTS + self._in_flight:
            self._leaving = True
            return Reaction.LEAVE_THE_REST
        return Reaction.CONTINUE


class TeacherHealth:
    """What one run knows about its teacher's health."""

    def __init__(self, teacher: Teacher, options: CollectOptions, accounts: Accounts) -> None:
        self._teacher = teacher
        self._test = one_token(options.top_logprobs, options.sampling)
        self._accounts = accounts
        self.answers = 0
        """Answers so far, to prompts and to test requests."""
        self._answered_at = time.monotonic()
        self._testing = asyncio.Lock()

    def record_success(self) -> None:
        self.answers += 1
        self._answered_at = time.monotonic()

    async def wait_until_answering(self, answers_before: int, failure: BitnetError) -> None:
        """Return once there are more than `answers_before` answers: then the failure was the prompt's.

        Of all requests that wait, one at a time tests the teacher. Raises `failure` after a long outage.
        """
        async with self._testing:
            while self.answers == answers_before and not await self.answers_a_token():
                if time.monotonic() - self._answered_at > _OUTAGE_SECONDS:
                    raise failure
                await self.pause()

    async def answers_a_token(self) -> bool | None:
        """Test the teacher with a request of one token: False if it refuses, None if it does not answer."""
        seconds = few_tokens_seconds(self._teacher.provider)
        try:
            await self._teacher.chat(self._test, attempts=1, seconds=seconds)
        except PromptRefused:
            return False
        except (Failing, Unreachable):
            return None
        except BadReply as error:
            if error.retryable:
                return None
        self.record_success()
        return True

    async def pause(self) -> None:
        """Wait before the next attempt. Raises SendingClosed if the run has ended meanwhile."""
        await asyncio.sleep(_PAUSE_SECONDS)
        if self._accounts.closed:
            raise SendingClosed
