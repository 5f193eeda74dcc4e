"""The answer of a model in this process: its columns, and the body in OpenAI's shape that the journal keeps.

Both are made from the same decisions, so that reading the body later gives the same columns. Knows no requests.
"""

import json
import math
from collections.abc import Sequence

from bitnet_core.teachers.answers.repair import repaired
from bitnet_core.teachers.answers.reported import padded
from bitnet_core.teachers.answers.result import BadReply, ChatResult, Repaired, as_bad_reply, checked, finite_numbers
from bitnet_core.teachers.hf.decoding import Choice
from bitnet_core.tokenizer.steps import Completion, TokenTable
from bitnet_core.tokenizer.student import StudentTokenizer


class AnswerWriter:
    """Writes down the answers of one model. `ends` are the tokens that end an answer."""

    def __init__(self, model: str, tokenizer: StudentTokenizer, ends: frozenset[int], table: TokenTable) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._ends = ends
        self._table = table
        self._known: dict[int, tuple[int, str]] = {}
        """For each token id: its number in the table, and its constant fields in the JSON."""

    def write(
        self,
        choices: Sequence[Choice],
        text: str,
        finish_reason: str,
        *,
        logprobs: bool,
        prompt_tokens: int,
        timings: dict[str, float],
    ) -> ChatResult:
        """The answer. Raises BadReply if its tokens can't be used, for example if a control token is the last one.

        Or if the model computed NaN, as where fp16 is too small for it: from there on, its tokens mean nothing.
        """
        steps, content = self._columns(choices) if logprobs else (None, "null")
        message = {"role": "assistant", "content": text}
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(choices),
            "total_tokens": prompt_tokens + len(choices),
        }
        body = (
            f'{{"object":"chat.completion","model":{json.dumps(self._model)},"choices":[{{"index":0,'
            f'"message":{json.dumps(message)},"finish_reason":"{finish_reason}","logprobs":{content}}}],'
            f'"usage":{json.dumps(usage)},"timings":{json.dumps(timings)}}}'
        ).encode()
        with as_bad_reply(body):
            if any(math.isnan(choice.logprob) for choice in choices):
                raise BadReply("not_finite", "the model computed numbers that are not finite")
            completion = Repaired(text) if steps is None else repaired(steps, text, finish_reason)
            return checked(
                ChatResult(
                    **vars(completion),
                    finish_reason=finish_reason,
                    prompt_tokens=prompt_tokens,
                    completion_tokens=len(choices),
                    timings=finite_numbers(timings),
                    model=self._model,
                    body=body,
                )
            )

    def _columns(self, choices: Sequence[Choice]) -> tuple[Completion, str]:
        """The columns, with logprobs as the JSON has them, and the JSON."""
        sampled: list[int] = []
        own: list[str] = []
        tops: list[int] = []
        values: list[str] = []
        counts: list[int] = []
        entries: list[str] = []
        for choice in choices:
            number, fields = self._token(choice.token)
            sampled.append(number)
            own.append(_json_number(choice.logprob))
            candidates: list[str] = []
            for index, logprob in zip(choice.top_ids, choice.top_logprobs, strict=True):
                if logprob != -math.inf:
                    top, top_fields = self._token(index)
                    tops.append(top)
                    values.append(_json_number(logprob))
                    candidates.append(f'{{{top_fields},"logprob":{values[-1]}}}')
            counts.append(len(candidates))
            entries.append(f'{{{fields},"logprob":{own[-1]},"top_logprobs":[{",".join(candidates)}]}}')
        steps = padded(self._table, sampled, _numbers(own), tops, _numbers(values), counts)
        return steps, f'{{"content":[{",".join(entries)}]}}'

    def _token(self, index: int) -> tuple[int, str]:
        """See `_known`. Tokens that end an answer or are not text have no bytes."""
        found = self._known.get(index)
        if found is None:
            data = b"" if index in self._ends else self._tokenizer.text_bytes(index)
            name = json.dumps(data.decode("utf-8", errors="replace"))
            fields = f'"id":{index},"token":{name},"bytes":{json.dumps(list(data))}'
            found = self._known[index] = self._table.number(index, data), fields
        return found


def _json_number(logprob: float) -> str:
    """Nine digits are all that a float32 has. JSON has no NaN: readers take null for it."""
    return format(logprob, ".9g") if math.isfinite(logprob) else "null"


def _numbers(texts: Sequence[str]) -> list[float | None]:
    return [None if text == "null" else float(text) for text in texts]
