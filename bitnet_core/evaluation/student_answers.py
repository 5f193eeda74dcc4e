"""A student as an answerer of suites: what it can't answer comes back with its reason.

It answers greedily, as the teacher does (`teacher_answers.py`), with the same prompts and the same longest answer.
"""

from collections.abc import Sequence

from torch import Tensor

from bitnet_core.errors import BitnetError, Stopped
from bitnet_core.evaluation.teacher_answers import LABEL, user_turn
from bitnet_core.model.rows import decode_rows
from bitnet_core.model.sampling import Decoding
from bitnet_core.model.student import Student
from bitnet_core.runs.reporter import Reporter
from bitnet_core.suites.run import Answerer, OnAnswer, Unanswered
from bitnet_core.teachers.embedded.completions import LlamaCppWriter
from bitnet_core.teachers.embedded.server import LlamaServer
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.student import StudentTokenizer

_ROWS = 8
"""Prompts that are decoded together in this program."""


def student_answers(student: Student, tokenizer: StudentTokenizer, max_tokens: int, reporter: Reporter) -> Answerer:
    """A student in this program, at its present activation bits and on its device, several prompts at once.

    Inside the block of its `student_scorer`, its weights are quantised already.
    """

    def answer_all(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        asked = _Asked(prompts, tokenizer, student.config.max_position_embeddings, on_answer, reporter)
        # Rows of one length need no padding.
        order = sorted(asked.ids, key=lambda place: len(asked.ids[place]))
        decoding = Decoding(max_tokens=max_tokens)

        def on_id(_row: int, _index: int, _logits_V: Tensor) -> bool:
            reporter.check_stop()
            return True

        for start in range(0, len(order), _ROWS):
            places = order[start : start + _ROWS]
            rows = [asked.ids[place] for place in places]
            seeds = [0] * len(rows)
            made = decode_rows(student, rows, decoding, seeds=seeds, eos_id=tokenizer.eos_id, on_id=on_id)
            for place, ids in zip(places, made, strict=True):
                asked.answered(place, ids)

    return answer_all


def served_answers(
    server: LlamaServer, tokenizer: StudentTokenizer, positions: int, max_tokens: int, reporter: Reporter
) -> Answerer:
    """A student of `positions` positions in a llama.cpp server, which takes as many prompts at once as it has slots.

    What is not answered when the server ends has its message as the reason.
    """

    def answer_all(prompts: Sequence[str], on_answer: OnAnswer) -> None:
        asked = _Asked(prompts, tokenizer, positions, on_answer, reporter)
        places = list(asked.ids)
        # The token after the last position can be predicted, but not read.
        most = [min(max_tokens, positions - len(asked.ids[place]) + 1) for place in places]
        writer = LlamaCppWriter(server.base_url.removesuffix("/v1"), server.api_key, slots=server.parallel)

        def on_done(number: int, ids: list[int]) -> None:
            reporter.check_stop()
            asked.answered(places[number], ids)

        try:
            writer.write([asked.ids[place] for place in places], most, on_done)
        except Stopped:
            raise
        except BitnetError as error:
            for place in asked.waiting():
                on_answer(place, Unanswered(str(error)))

    return answer_all


class _Asked:
    """Prompts as the student reads them. One that it can't read is unanswered at once."""

    def __init__(
        self,
        prompts: Sequence[str],
        tokenizer: StudentTokenizer,
        positions: int,
        on_answer: OnAnswer,
        reporter: Reporter,
    ) -> None:
        self.ids: dict[int, list[int]] = {}
        """By the number of the prompt."""
        self._tokenizer, self._on_answer, self._reporter = tokenizer, on_answer, reporter
        self._whole, self._done = len(prompts), set[int]()
        for place, prompt in enumerate(prompts):
            found = _read(prompt, tokenizer, positions)
            if isinstance(found, Unanswered):
                on_answer(place, found)
            else:
                self.ids[place] = found
        self._report()

    def answered(self, place: int, ids: Sequence[int]) -> None:
        self._done.add(place)
        self._on_answer(place, self._tokenizer.decode(ids))
        self._report()

    def waiting(self) -> list[int]:
        return [place for place in self.ids if place not in self._done]

    def _report(self) -> None:
        self._reporter.check_stop()
        self._reporter.progress(self._whole - len(self.waiting()), self._whole, "items", LABEL)


def _read(prompt: str, tokenizer: StudentTokenizer, positions: int) -> list[int] | Unanswered:
    try:
        ids = tokenizer.encode_prompt(user_turn(prompt)).ids
    except Refused as error:
        return Unanswered(f"the student's {error.by} refuses the prompt: {error.reason}")
    if len(ids) > positions:
        return Unanswered(f"the prompt is longer than the student's {positions} positions")
    return ids
