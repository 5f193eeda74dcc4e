"""A teacher as an answerer of suites: what it can't answer comes back with its reason.

It answers greedily, as the student does (`student_answers.py`), with the same prompts and the same longest answer.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation.kept_answers import KeptAnswers
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import Sampling, SuiteOptions
from bitnet_core.suites.run import Answer, Unanswered
from bitnet_core.teachers.answers.result import BadReply, ChatResult, whole
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.health import WAITING, TeacherHealth
from bitnet_core.teachers.http.retries import Unreachable
from bitnet_core.teachers.neutral import one_token
from bitnet_core.teachers.refusals import Failing
from bitnet_core.teachers.teacher import Teacher

_POLL_SECONDS = 0.2
LABEL = "checks"
"""What the answers are called while they are awaited."""
_MOST_FAILING = 8
"""Each is tried several times, for about 20 s."""


def user_turn(prompt: str) -> list[dict[str, str]]:
    """The item as a conversation."""
    return [{"role": "user", "content": prompt}]


def _question(prompt: str) -> str:
    """What identifies a kept answer: an item is not asked in the same way as the same words in the baseline."""
    return f"item:{hashlib.sha256(prompt.encode()).hexdigest()}"


class TeacherAnswers:
    """Asks a teacher, several prompts at once. A stop abandons the answers in flight.

    After an error that is not about one prompt, such as a refused key, the remaining prompts are not asked; nor are
    they after some prompts on which the server breaks, without an answer between them.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        asked: SuiteOptions,
        parallel: int,
        reporter: Reporter,
        kept: KeptAnswers | None = None,
    ) -> None:
        """With `kept`, the answers of an earlier run are taken over, and those of this one added."""
        self._kept = kept
        self.prompts, self.parallel, self.max_tokens = prompts, max(1, min(parallel, len(prompts))), asked.max_tokens
        self._seed, self._reporter = asked.seed, reporter
        self._broken, self._failing = "", 0
        self.found: dict[int, Answer] = {}
        """By the number of the prompt."""
        self.prompt_tokens = self.completion_tokens = 0
        """Of all answers, as far as the teacher reports them."""

    async def ask(self, teacher: Teacher) -> None:
        """Fill `found`. An outage of the server is waited out."""
        sampling = Sampling(max_tokens=self.max_tokens, temperature=0.0)
        waits = partial(self._reporter.meanwhile, WAITING)
        health = TeacherHealth(teacher, one_token(0, sampling), on_wait=waits)
        for place, prompt in enumerate(self.prompts):
            if self._kept is not None and (kept := self._kept.get(_question(prompt))):
                self._take(place, kept.result)
        waiting = iter([one for one in enumerate(self.prompts) if one[0] not in self.found])

        async def work() -> None:
            for place, prompt in waiting:
                self._reporter.check_stop()
                await self._answer(teacher, health, place, prompt)
                self._reporter.progress(len(self.found), len(self.prompts), "items", LABEL)

        tasks = {asyncio.create_task(work()) for _ in range(self.parallel)}
        try:
            running = tasks
            while running:
                self._reporter.check_stop()
                done, running = await asyncio.wait(running, timeout=_POLL_SECONDS)
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, place: int, result: ChatResult) -> None:
        self.found[place] = result.text
        self.prompt_tokens += result.prompt_tokens
        self.completion_tokens += result.completion_tokens

    async def _answer(self, teacher: Teacher, health: TeacherHealth, place: int, prompt: str) -> None:
        if self._broken:
            self.found[place] = Unanswered(self._broken)
            return
        request = ChatRequest(user_turn(prompt), self.max_tokens, temperature=0.0, top_p=1.0, seed=self._seed)
        try:
            result = await self._result(teacher, health, request)
        except Stopped:
            raise
        except BitnetError as error:
            self._broken = str(error)
            result = Unanswered(self._broken)
        if isinstance(result, Unanswered):
            self.found[place] = result
            return
        self._failing = 0
        self._take(place, result)
        if self._kept is not None:
            self._kept.put(_question(prompt), result)

    async def _result(self, teacher: Teacher, health: TeacherHealth, request: ChatRequest) -> ChatResult | Unanswered:
        """The teacher's answer, or why it gives none to this request. Raises what is not about this request alone."""

        async def ask(attempts: int) -> ChatResult:
            return whole(await teacher.chat(request, attempts=attempts))

        try:
            try:
                return await health.outlasting(ask)
            except BadReply as error:
                if not error.retryable:
                    raise
                return await health.outlasting(ask)
        except (BadReply, BitnetError) as error:
            if not await teacher.fails_on(request, error):
                raise
            if isinstance(error, Failing | Unreachable):
                self._failing += 1
                if self._failing == _MOST_FAILING:
                    raise
            return Unanswered(str(error))
