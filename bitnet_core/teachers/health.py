"""Whether a teacher still answers, and how long to wait for one that has stopped."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.retries import ATTEMPTS, Unreachable
from bitnet_core.teachers.neutral import few_tokens_seconds
from bitnet_core.teachers.refusals import Failing, PromptRefused, SettingsRefused
from bitnet_core.teachers.teacher import Teacher

_OUTAGE_SECONDS = 900.0
"""How long to wait for a teacher that has stopped responding."""
_PAUSE_SECONDS = 10.0
"""The time between two requests to a teacher that does not respond."""
_MAX_OUTAGES = 3
"""After this many outages during one request it counts as their cause: it may kill the server each time."""
WAITING = "waiting for the teacher"
"""What a run does during an outage."""
_T = TypeVar("_T")


class TeacherHealth:
    """What one run knows about its teacher's health. `test` is a request of one token."""

    def __init__(
        self,
        teacher: Teacher,
        test: ChatRequest,
        check_open: Callable[[], object] = lambda: None,
        on_wait: Callable[[], object] = lambda: None,
    ) -> None:
        """`check_open` is called after each pause, and raises if the run has ended meanwhile.

        `on_wait` is called during an outage, before each pause.
        """
        self._teacher = teacher
        self._test = test
        self._check_open = check_open
        self._on_wait = on_wait
        self._failed_tests = 0
        self.answers = 0
        """Answers so far, to prompts and to test requests."""
        self._responded_at = time.monotonic()
        self._testing = asyncio.Lock()

    def record_success(self) -> None:
        self.answers += 1
        self._record_response()

    def _record_response(self) -> None:
        self._teacher.answering = True
        self._responded_at = time.monotonic()

    async def wait_until_answering(self, answers_before: int, failure: BitnetError) -> None:
        """Return once there are more than `answers_before` answers, or once a test is refused: the teacher responds.

        Of all requests that wait, one at a time tests the teacher. Raises `failure` after a long outage.
        """
        async with self._testing:
            while self.answers == answers_before and await self.answers_a_token() is None:
                if time.monotonic() - self._responded_at > _OUTAGE_SECONDS:
                    raise failure
                self._failed_tests += 1
                self._teacher.answering = False
                self._on_wait()
                await self.pause()

    async def answers_a_token(self) -> bool | None:
        """Test the teacher with a request of one token: False if it refuses, None if it does not answer."""
        seconds = few_tokens_seconds(self._teacher.provider)
        try:
            await self._teacher.chat(self._test, attempts=1, seconds=seconds)
        except (PromptRefused, SettingsRefused):  # a server may demand more tokens than one
            self._record_response()
            return False
        except (Failing, Unreachable):
            return None
        except BadReply as error:
            if error.retryable:
                return None
        self.record_success()
        return True

    async def pause(self) -> None:
        """Wait before the next attempt."""
        await asyncio.sleep(_PAUSE_SECONDS)
        self._check_open()

    async def outlasting(self, ask: Callable[[int], Awaitable[_T]]) -> _T:
        """What `ask` gives for a number of attempts; after an outage it is called again, for one attempt.

        Raises its error where there was none, and for a teacher that has never answered: its address may be wrong.
        """
        outages = 0
        while True:
            tests_before = self._failed_tests
            try:
                found = await ask(1 if outages else ATTEMPTS)  # each attempt may be billed
            except (Failing, Unreachable) as error:
                if not self.answers or outages == _MAX_OUTAGES:
                    raise
                await self.wait_until_answering(self.answers, error)
                if self._failed_tests == tests_before:
                    raise  # the teacher has answered others all the time
                outages += 1
                await self.pause()
            else:
                self.record_success()
                return found
