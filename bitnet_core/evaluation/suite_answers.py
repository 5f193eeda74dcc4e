"""A teacher and a student as answerers of suites: what can't be answered comes back with its reason.

Both answer greedily, with the same prompts and the same longest answer.
"""

import asyncio
from collections.abc import Sequence

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.model.decoding import generate_ids
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.settings.values import Sampling, SuiteOptions
from bitnet_core.suites.run import Answer, Answerer, OnAnswer, Unanswered
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.refusals import PromptRefused
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.student import StudentTokenizer

_POLL_SECONDS = 0.2
_LABEL = "checks"


def user_turn(prompt: str) -> list[dict[str, str]]:
    """The conversation that an item is."""
    return [{"role": "user", "content": prompt}]


class TeacherAnswers:
    """Asks a teacher, several prompts at once. A stop abandons the answers in flight.

    After an error that is not about one prompt, such as a refused key, the remaining prompts are not asked.
    """

    def __init__(self, prompts: Sequence[str], asked: SuiteOptions, parallel: int, reporter: Reporter) -> None:
        self.prompts, self.parallel, self.max_tokens = prompts, max(1, min(parallel, len(prompts))), asked.max_tokens
        self._seed, self._reporter = asked.seed, reporter
        self._broken = ""
        self.found: dict[int, Answer] = {}
        """By the number of the prompt."""
        self.prompt_tokens = self.completion_tokens = 0
        """Of all answers, as far as the teacher reports them."""

    async def ask(self, teacher: Teacher) -> None:
        """Fill `found`."""
        waiting = iter(enumerate(self.prompts))

        async def work() -> None:
            for place, prompt in waiting:
                self._reporter.check_stop()
                self.found[place] = await self._answer(teacher, prompt)
                self._reporter.progress(len(self.found), len(self.prompts), "items", _LABEL)

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

    async def _answer(self, teacher: Teacher, prompt: str) -> Answer:
        if self._broken:
            return Unanswered(self._broken)
        request = ChatRequest(user_turn(prompt), self.max_tokens, temperature=0.0, top_p=1.0, seed=self._seed)
        try:
            try:
                result = await teacher.chat(request)
            except BadReply as error:
                if not error.retryable:
                    raise
                result = await teacher.chat(request)
        except (BadReply, PromptRefused) as error:
            return Unanswered(str(error))
        except Stopped:
            raise
        except BitnetError as error:
            self._broken = str(error)
            return Unanswered(self._broken)
        self.prompt_tokens += result.prompt_tokens
        self.completion_tokens += result.completion_tokens
        return result.text


def student_answers(student: Student, tokenizer: StudentTokenizer, max_tokens: int, reporter: Reporter) -> Answerer:
    """A packed student, at its present activation bits and on its device, as an answerer."""
    positions = student.config.max_position_embeddings

    def answer(prompt: str) -> Answer:
        try:
            ids = tokenizer.encode_prompt(user_turn(prompt)).ids
        except Refused as error:
            return Unanswered(f"the student's {error.by} refuses the prompt: {error.reason}")
        if len(ids) > positions:
            return Unanswered(f"the prompt is longer than the student's {positions} positions")
        sampling = Sampling(max_tokens=max_tokens)
        made = generate_ids(student, ids, sampling, eos_id=tokenizer.eos_id, on_token=reporter.check_stop)
        return tokenizer.decode(made.ids)

    def answer_all(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        for place, prompt in enumerate(prompts):
            reporter.check_stop()
            reporter.progress(place, len(prompts), "items", _LABEL)
            on_answer(place, answer(prompt))
        reporter.progress(len(prompts), len(prompts), "items", _LABEL)

    return answer_all
