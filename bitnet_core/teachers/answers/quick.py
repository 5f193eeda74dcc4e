"""Read the usual shape of an OpenAI-like answer without making an object of each of its numbers.

A kept answer is some hundred steps with twenty candidates each; all but a few of their tokens were met before, so
their bytes are compared as they stand in the JSON, not decoded. Whatever is not the usual shape is left to `replies`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from bitnet_core.teachers.answers import read as replies
from bitnet_core.teachers.answers import tokens as answer_tokens
from bitnet_core.teachers.answers.finish import finish_of
from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.answers.read import BadReply, ChatResult
from bitnet_core.tokenizer.steps import TokenTable


class _Token(msgspec.Struct, gc=False):
    logprob: float | None = None
    id: int = -1
    token: msgspec.Raw = msgspec.Raw(b"")
    bytes: msgspec.Raw = msgspec.Raw(b"")


class _Step(msgspec.Struct, gc=False):
    top_logprobs: list[_Token]
    logprob: float | None = None
    id: int = -1
    token: msgspec.Raw = msgspec.Raw(b"")
    bytes: msgspec.Raw = msgspec.Raw(b"")


class _Logprobs(msgspec.Struct):
    content: list[_Step]


class _Message(msgspec.Struct):
    content: str
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    logprobs: _Logprobs
    finish_reason: str = ""
    error: Any = None


class _Body(msgspec.Struct):
    choices: list[_Choice]
    usage: dict[str, Any] = {}
    timings: dict[str, Any] = {}
    model: str = ""
    provider: str = ""


_DECODER = msgspec.json.Decoder(_Body)
_NONE = (b"", b"null")
_NOT_MET: tuple[object, int] = (None, -1)


def read(body: bytes, table: TokenTable) -> ChatResult:
    """As `replies.parse_chat` of the decoded body. Raises BadReply, and ValueError for what is no JSON."""
    try:
        found = _usual(body, table)
    except (msgspec.MsgspecError, BadReply):
        found = None
    return found or replies.parse_chat(decode(body), body, table)


def _usual(body: bytes, table: TokenTable) -> ChatResult | None:
    told = _DECODER.decode(body)
    choice = told.choices[0] if told.choices else None
    if choice is None or not choice.logprobs.content or choice.error or choice.message.refusal:
        return None
    finish_reason = finish_of(choice.finish_reason)
    content = choice.logprobs.content
    tops = [token for step in content for token in step.top_logprobs]
    counts_N = np.array([len(step.top_logprobs) for step in content], np.int64)
    steps = answer_tokens.padded(
        table, _numbers(content, table), _values(content), _numbers(tops, table), _values(tops), counts_N
    )
    if steps.text() != choice.message.content.encode(errors="replace"):
        return None  # something is to be mended, or cut inside a character
    found = answer_tokens.mended(steps, choice.message.content, finish_reason)
    return ChatResult(
        text=found.text,
        steps=found.steps,
        finish_reason=finish_reason,
        prompt_tokens=replies.count(told.usage.get("prompt_tokens"), 0),
        completion_tokens=replies.count(told.usage.get("completion_tokens"), len(steps)),
        text_matches_bytes=found.matches,
        timings=replies.timings(told.timings),
        model=told.model,
        body=body,
        repairs=found.repairs,
        upstream=told.provider,
    )


def _numbers(tokens: Sequence[_Token | _Step], table: TokenTable) -> list[int]:
    """The number of each token: looked up for all at once, and one by one only for what was not met before."""
    met = table.spelled.get
    keys: Sequence[int | bytes] = [token.id for token in tokens]
    spellings = [token.bytes for token in tokens]
    if -1 in keys:
        keys = [_key(token) for token in tokens]
    known = [met(key, _NOT_MET) for key in keys]
    numbers = [number for _, number in known]
    if [spelling for spelling, _ in known] != spellings:
        for place, (spelling, _) in enumerate(known):
            if spelling != spellings[place]:
                numbers[place] = _number(tokens[place], table)
    return numbers


def _values(tokens: Sequence[_Token | _Step]) -> npt.NDArray[np.float64]:
    """Their logprobs; null becomes NaN."""
    return np.array([token.logprob for token in tokens], np.float64)


def _number(token: _Token | _Step, table: TokenTable) -> int:
    """The number of a token; its spelling is kept, so that the next one costs a comparison."""
    spelling = token.bytes
    if bytes(spelling) in _NONE:
        return answer_tokens.number_of({"id": token.id, "token": decode(bytes(token.token) or b"null")}, table)
    number = answer_tokens.number_of({"id": token.id, "bytes": decode(bytes(spelling))}, table)
    table.spelled[_key(token)] = (spelling.copy(), number)
    return number


def _key(token: _Token | _Step) -> int | bytes:
    return token.id if token.id >= 0 else bytes(token.bytes)
