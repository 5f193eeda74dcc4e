"""Whether the teacher still answers: its last sign of life, test requests of one token, and waiting while it is down.

Knows nothing about prompts and answers.
"""

import asyncio
import time

from bitnet_core.collecting.accounting import Accounts, SendingClosed
from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.http.retries import Unreachable
from bitnet_core.teachers.probe import one_token, token_timeout
from bitnet_core.teachers.refusals import Failing, PromptRefused
from bitnet_core.teachers.teacher import Teacher

_OUTAGE_SECONDS = 900.0
"""How long to wait for a teacher that has stopped responding."""
_PAUSE_SECONDS = 10.0
"""The time between two requests to a teacher that does not respond."""


class TeacherHealth:
    """What one run knows about its teacher's health."""

    def __init__(self, teacher: Teacher, top_logprobs: int, accounts: Accounts) -> None:
        self._teacher = teacher
        self._top_logprobs = top_logprobs
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
        request = one_token(self._top_logprobs)
        try:
            await self._teacher.chat(request, attempts=1, seconds=token_timeout(self._teacher))
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
