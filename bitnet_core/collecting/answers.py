"""From a stored answer to a finished sequence: read it, check it for any student, project it for this one.

An answer is checked when it arrives and projected once, when its shard is written. Asks no teacher, writes no file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bitnet_core.collecting.journal import StoredAnswer
from bitnet_core.collecting.requests import Collection, Request
from bitnet_core.prompts.prompt import canonical_json
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.judge import MAX_UNREPORTED_TOKENS, answer_fault
from bitnet_core.teachers.opening import reader
from bitnet_core.teachers.usage import believed_completion, believed_prompt
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.steps import TokenTable
from bitnet_core.tokenizer.student import RenderedPrompt
from bitnet_core.traces.answer import CheckedAnswer, Rejected, check_answer
from bitnet_core.traces.columns import FinishedSequence
from bitnet_core.traces.project import Projection, project
from bitnet_core.traces.vocabulary import Vocabulary


@dataclass
class ReadAnswer:
    """What an entry of the journal holds: a usable answer, or the reason why it is `rejected`."""

    result: ChatResult | None = None
    answer: CheckedAnswer | None = None
    rejected: str = ""
    repairs: Mapping[str, int] = field(default_factory=dict)

    @property
    def completion_tokens(self) -> int:
        return self.result.completion_tokens if self.result else 0

    @property
    def steps(self) -> int:
        """The number of teacher steps that can be used."""
        return len(self.answer.steps) if self.answer else 0

    def other_mass_mean(self) -> float | None:
        """The mean probability outside the teacher's candidates; None for a rejected answer."""
        return float(np.exp(self.answer.mass.other_N).mean()) if self.answer else None


class AnswerReader:
    """Reads, checks and projects the answers of one collection. Safe for several threads."""

    def __init__(self, collection: Collection) -> None:
        self.table = TokenTable()
        """Numbers the tokens of every answer read here; a teacher that fills it saves reading them twice."""
        self._collection = collection
        self._tokenizer = collection.tokenizer
        self._vocabulary = Vocabulary(self._tokenizer, self.table)
        self._read = reader(collection.identity.provider)
        self._spells_every_byte = all(bytes([byte]) in self._tokenizer.ids_by_bytes for byte in range(256))

    def check(self, entry: StoredAnswer, result: ChatResult | None = None) -> ReadAnswer:
        """Read an answer and check what does not depend on the student. `result`: the answer, if read before."""
        if entry.status != "ok":
            return ReadAnswer(rejected=entry.status)
        read = ReadAnswer()
        try:
            read.result = self._read_body(entry.body) if result is None else result
            repairs = read.repairs = dict(read.result.repairs)
            read.answer = self._usable_answer(read.result, repairs)
        except (BadReply, Rejected) as error:
            read.rejected = error.reason
        return read

    def check_arrival(self, entry: StoredAnswer, result: ChatResult | None = None) -> ReadAnswer:
        """As `check`, and reject a text that this student can't spell, without projecting the answer."""
        read = self.check(entry, result)
        fault = self._spelling_fault(read.answer.text) if read.answer is not None else ""
        return ReadAnswer(read.result, rejected=fault, repairs=read.repairs) if fault else read

    def finish(self, request: Request, entry: StoredAnswer, *, sequence_hash: str | None = None) -> FinishedSequence:
        """Both layers of one answer, or the reason why it can't be used.

        `sequence_hash` decides whether it is held out; by default the prompt's `side_hash`.
        """
        read = self.check(entry)
        result, rejected = read.result, read.rejected
        projection: Projection | None = None
        if result is not None and read.answer is not None:
            try:
                projection = project(read.answer, result.finish_reason, self._vocabulary)
            except Rejected as error:
                rejected = error.reason
        prompt = RenderedPrompt("", [])
        try:
            prompt = self._tokenizer.encode_prompt(request.prompt.messages)
        except Refused as error:
            rejected, projection = rejected or error.status, None
        return FinishedSequence(
            prompt_idx=request.prompt_idx,
            sequence_hash=sequence_hash or request.prompt.side_hash,
            request_key=request.key,
            messages_json=canonical_json(request.prompt.messages),
            rendered_prompt=prompt.text,
            prompt_ids=prompt.ids,
            completion_text=result.text if result else "",
            finish_reason=result.finish_reason if result else "",
            prompt_tokens=believed_prompt(result, request.prompt.messages).prompt_tokens if result else 0,
            completion_tokens=read.completion_tokens,
            text_matches_bytes=bool(result and result.text_matches_bytes),
            answer=read.answer,
            projection=projection,
            rejected=rejected,
            repairs=read.repairs,
        )

    def _read_body(self, body: bytes) -> ChatResult:
        return believed_completion(self._read(body, self.table), self._collection.options.sampling.max_tokens)

    def _usable_answer(self, result: ChatResult, repairs: dict[str, int]) -> CheckedAnswer:
        """The checked answer with at most as many candidates a step as asked for. Raises Rejected."""
        reason = answer_fault(result, self._collection.options.sampling.max_tokens)
        if reason is not None or result.steps is None:
            raise Rejected(reason or "no_logprobs")
        steps = result.steps.at_most(self._collection.options.top_logprobs)
        if steps is not result.steps:
            repairs["surplus_candidates"] = int((result.steps.tops_NK >= 0).sum() - (steps.tops_NK >= 0).sum())
        answer = check_answer(steps, self._vocabulary)
        missing = result.completion_tokens - len(steps) - sum(map(len, answer.bytes_before.values()))
        if missing > MAX_UNREPORTED_TOKENS:
            raise Rejected("logprobs_missing")
        return answer

    def _spelling_fault(self, text: bytes) -> str:
        """The reason why this student can't spell a text; "" where it can."""
        if self._spells_every_byte:  # a text that can't be cut is found when its shard is written
            return ""
        try:
            self._tokenizer.encode_bytes(text)
        except Refused as error:
            return error.status
        return ""
