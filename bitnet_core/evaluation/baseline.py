"""The teacher's greedy baseline: prompts asked one after another, timed, and the first ones asked twice.

One at a time, so that a latency is the teacher's and not a queue's. `baseline_report` makes figures of the answers.
"""

import asyncio
import dataclasses
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from bitnet_core.errors import BitnetError
from bitnet_core.evaluation.kept_answers import KeptAnswers
from bitnet_core.prompts.prompt import Prompt
from bitnet_core.runs.events import Sample
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.answers.result import BadReply, ChatResult, whole
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.health import WAITING, TeacherHealth
from bitnet_core.teachers.http.retries import Failure
from bitnet_core.teachers.neutral import one_token
from bitnet_core.teachers.teacher import Teacher

_POLL_SECONDS = 0.2
_ASKED_TWICE = 3
_T = TypeVar("_T")


@dataclass(frozen=True)
class TimedAnswer:
    """An answer and its latency. `first_token_s` is None where the answer came in one piece."""

    prompt: Prompt
    result: ChatResult
    seconds: float
    first_token_s: float | None

    @property
    def counted(self) -> bool:
        """Whether the numbers of prompt and completion tokens are known."""
        return bool(self.result.counted and self.result.prompt_tokens)


@dataclass(frozen=True)
class Baseline:
    """What was measured. `sampling_sent` is the sampling really requested; `memory_bytes` is None if unknown."""

    answers: list[TimedAnswer]
    failed: list[dict[str, str]]
    """Prompts without a usable answer, each with its reason."""
    wall_s: float
    sampling_sent: dict[str, Any]
    determinism: dict[str, Any]
    memory_bytes: int | None


class _Clock:
    """Times an answer from its last sending on: the waits before it are those of attempts that failed."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.first_token_s: float | None = None

    async def sent(self) -> None:
        self._began, self.first_token_s = time.monotonic(), None

    async def failed(self, how: Failure) -> None:
        del how

    def first_token(self) -> None:
        if self.first_token_s is None:
            self.first_token_s = self.seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began


class Interview:
    """Asks one teacher with one sampling and seed. A requested stop abandons the answer in flight at once."""

    def __init__(
        self, teacher: Teacher, sampling: Sampling, seed: int, reporter: Reporter, kept: KeptAnswers | None = None
    ) -> None:
        """With `kept`, the answers of an earlier run are taken over, and those of this one added."""
        self._kept = kept
        self._memory: int | None = None
        self._teacher, self._sampling, self._seed, self._reporter = teacher, sampling, seed, reporter
        self._health = TeacherHealth(teacher, one_token(0, sampling), on_wait=partial(reporter.meanwhile, WAITING))

    async def measure(self, prompts: list[Prompt]) -> Baseline:
        """Ask every prompt that has no answer yet. Raises BitnetError if none gets a usable answer."""
        await self._warm_up(prompts[0])
        answers: list[TimedAnswer] = []
        failed: list[dict[str, str]] = []
        started, earlier = time.monotonic(), 0.0
        for place, prompt in enumerate(prompts):
            if (answer := self._answer_of_earlier_run(prompt)) is not None:
                answers.append(answer)
                earlier += answer.seconds
                continue
            self._reporter.progress(place, len(prompts), "prompts", "baseline")
            try:
                answer = await self._ask_again_once(prompt)
            except (BadReply, BitnetError) as error:
                if not await self._fails_on(prompt, error):
                    raise
                failed.append({"prompt": prompt.text, "reason": str(error)})
                continue
            answers.append(answer)
            self._reporter.emit(Sample(prompt=prompt.text, text=answer.result.text, source="teacher"))
            self._keep(answer)
        wall_s = time.monotonic() - started + earlier
        if not answers:
            raise BitnetError(
                f"The teacher answered none of {len(prompts)} baseline prompts ({failed[0]['reason']}); "
                "choose another model."
            )
        sent = dict(self._teacher.requested_sampling(self._request(prompts[0], self._sampling)))
        fixed = [name for name, value in sent.items() if value is None]
        if fixed:
            self._reporter.alert(
                "warning",
                "sampling_fixed",
                f"{self._teacher.model} does not take the {' and the '.join(fixed)} of the settings: not sent.",
                "The server uses its own sampling; answers may differ from run to run.",
            )
        determinism = await self._compare_repeated_answers(answers)
        self._reporter.progress(len(prompts), len(prompts), "prompts", "baseline")
        self._read_memory()
        found = Baseline(answers, failed, wall_s, sent, determinism, self._memory)
        _warn_of_gaps(found, len(prompts), self._reporter)
        return found

    def _answer_of_earlier_run(self, prompt: Prompt) -> TimedAnswer | None:
        kept = self._kept.get(prompt.hash) if self._kept is not None else None
        if kept is None:
            return None
        self._read_memory(kept.memory_bytes)
        return TimedAnswer(prompt, kept.result, kept.seconds, kept.first_token_s)

    def _keep(self, answer: TimedAnswer) -> None:
        self._read_memory()
        if self._kept is not None:
            self._kept.put(
                answer.prompt.hash,
                answer.result,
                seconds=answer.seconds,
                first_token_s=answer.first_token_s,
                memory_bytes=self._memory,
            )

    def _read_memory(self, earlier: int | None = None) -> None:
        """Remember the most that the teacher takes, or took in an earlier run."""
        self._memory = max(filter(None, (self._memory, earlier, self._teacher.memory_bytes())), default=None)

    async def _warm_up(self, prompt: Prompt) -> None:
        """Make the first request after loading, which also waits for the weights to be read, and don't count it."""
        try:
            await self._ask(prompt, dataclasses.replace(self._sampling, max_tokens=1))
        except (BadReply, BitnetError) as error:
            if not await self._fails_on(prompt, error):
                raise

    async def _ask_again_once(self, prompt: Prompt) -> TimedAnswer:
        """Ask, and ask once more where a gateway may have garbled the first answer."""
        try:
            return await self._ask(prompt, self._sampling)
        except BadReply as error:
            if not error.retryable:
                raise
        return await self._ask(prompt, self._sampling)

    async def _ask(self, prompt: Prompt, sampling: Sampling) -> TimedAnswer:
        """One answer, streamed so that its first token can be timed. An outage of the server is waited out."""
        return await self._unless_stopped(self._health.outlasting(partial(self._ask_timed, prompt, sampling)))

    async def _ask_timed(self, prompt: Prompt, sampling: Sampling, attempts: int) -> TimedAnswer:
        clock = _Clock()

        def on_text(_text: str) -> None:
            clock.first_token()

        request = self._request(prompt, sampling)
        result = whole(await self._teacher.chat(request, attempts=attempts, on_text=on_text, watch=clock))
        return TimedAnswer(prompt, result, clock.seconds, clock.first_token_s)

    async def _fails_on(self, prompt: Prompt, error: Exception) -> bool:
        """Whether only this prompt gets no answer."""
        return await self._unless_stopped(self._teacher.fails_on(self._request(prompt, self._sampling), error))

    async def _unless_stopped(self, asking: Coroutine[Any, Any, _T]) -> _T:
        """The result of an awaitable, which a requested stop abandons at once."""
        task = asyncio.create_task(asking)
        try:
            while not task.done():
                self._reporter.check_stop()
                await asyncio.wait({task}, timeout=_POLL_SECONDS)
            return task.result()
        finally:
            task.cancel()

    def _request(self, prompt: Prompt, sampling: Sampling) -> ChatRequest:
        drawing = sampling.max_tokens, sampling.temperature, sampling.top_p
        return ChatRequest(prompt.messages, *drawing, seed=self._seed)

    async def _compare_repeated_answers(self, answers: list[TimedAnswer]) -> dict[str, Any]:
        """Ask the first prompts a second time, greedily, and compare the texts."""
        greedy = dataclasses.replace(self._sampling, temperature=0.0, top_p=1.0)
        if self._teacher.requested_sampling(self._request(answers[0].prompt, greedy)).get("temperature") is None:
            answers = []  # it can't be asked to answer greedily
        equal = asked = 0
        first_difference: int | None = None
        for answer in answers[:_ASKED_TWICE]:
            self._reporter.check_stop()
            try:
                once = answer.result.text
                if self._sampling != greedy:
                    once = (await self._ask(answer.prompt, greedy)).result.text
                twice = (await self._ask(answer.prompt, greedy)).result.text
            except (BadReply, BitnetError) as error:
                if not await self._fails_on(answer.prompt, error):
                    raise
                continue
            asked += 1
            equal += once == twice
            if once != twice and first_difference is None:
                pairs = enumerate(zip(once, twice, strict=False))
                first_difference = next((place for place, (a, b) in pairs if a != b), min(len(once), len(twice)))
        return {
            "asked_twice": asked,
            "equal": equal,
            "deterministic": None if not asked else equal == asked,
            "first_difference_at_character": first_difference,
            "origin": "measured",
        }


def _warn_of_gaps(found: Baseline, prompts: int, reporter: Reporter) -> None:
    uncounted = sum(not answer.counted for answer in found.answers)
    if uncounted:
        reporter.alert(
            "warning",
            "tokens_not_counted",
            f"{uncounted} of {len(found.answers)} answers came without a count of their tokens.",
            "Speed, usage and cost can't be known without it; ask the provider for usage in streams.",
        )
    if found.failed:
        reporter.alert(
            "warning",
            "prompts_failed",
            f"{len(found.failed)} of {prompts} baseline prompts got no usable answer ({found.failed[0]['reason']}).",
            "They are left out of the figures; see the report.",
        )
