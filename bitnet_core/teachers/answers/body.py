"""Read the body of a chat completion, in the shape of OpenAI's API that most servers imitate.

This one reader serves live answers, reassembled streams and the journal. Nearly every body fits the types below and
is decoded straight into them. Any other body is decoded as plain JSON and converted to the same types, so that
everything after that, and thus the meaning of an answer, exists once.

Servers are known to send: an end-of-text token without bytes or under its name, no `bytes` at all, empty ones or
those of another spelling of the token, one `id` for all tokens, -9999.0, null logprobs, fewer or one more candidate
than requested, text that is trimmed or cut inside a character, the parallel lists of an older API, HTML, an error
with status 200. Repairs are counted; what can't be repaired is a BadReply, or `text_matches_bytes` says so.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from bitnet_core.teachers.answers.json_body import as_object, decode
from bitnet_core.teachers.answers.parts import text_of
from bitnet_core.teachers.answers.repair import completion_of
from bitnet_core.teachers.answers.reported import Reported, ReportedToken, lenient_token
from bitnet_core.teachers.answers.result import (
    BadReply,
    ChatResult,
    Repaired,
    finish_of,
    finite_numbers,
    no_text,
    short_name,
    token_count,
)
from bitnet_core.tokenizer.steps import TokenTable

_SHOWN = 200


class _Step(ReportedToken, gc=False):
    top_logprobs: list[ReportedToken] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Step] | None = None
    tokens: Any = None
    token_logprobs: Any = None
    top_logprobs: Any = None
    token_ids: Any = None


class _Choice(msgspec.Struct):
    message: Any = None
    finish_reason: Any = None
    error: Any = None
    logprobs: _Logprobs | None = None
    """After a lenient conversion, any decoded JSON."""


class _Body(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Any = None
    timings: Any = None
    model: Any = None
    provider: Any = None
    system_fingerprint: Any = None


_DECODER = msgspec.json.Decoder(_Body)


def read_chat_completion(body: bytes, table: TokenTable | None) -> ChatResult:
    """The result in a body; without a `table`, its text alone. Raises BadReply, and ValueError for no JSON."""
    if not body.isascii():
        body.decode()  # msgspec does not check the UTF-8 of fields that it skips
    try:
        answer = _DECODER.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        answer = _lenient_body(decode(body))
    if not answer.choices:
        raise BadReply("no_choice", "the answer holds no choice")
    choice = answer.choices[0]
    if choice.error:
        cause = choice.error.get("message") if isinstance(choice.error, dict) else choice.error
        raise BadReply("error", f"the server failed while answering ({cause})"[:_SHOWN])
    finish_reason = finish_of(choice.finish_reason)
    reported = None if table is None else _reported(choice.logprobs)
    text = _text(choice.message)
    if text is None or (not text and reported is None):
        raise no_text(finish_reason)
    completion = Repaired(text) if table is None else completion_of(reported, text, finish_reason, table)
    usage = as_object(answer.usage)
    return ChatResult(
        **vars(completion),
        finish_reason=finish_reason,
        prompt_tokens=token_count(usage.get("prompt_tokens"), 0),
        completion_tokens=token_count(usage.get("completion_tokens"), len(completion.steps or ())),
        timings=finite_numbers(answer.timings),
        model=short_name(answer.model),
        body=body,
        upstream=short_name(answer.provider),
        fingerprint=short_name(answer.system_fingerprint),
    )


def _lenient_body(payload: Any) -> _Body:
    choices = as_object(payload).get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return _Body()
    choice = _Choice(*map(choices[0].get, _Choice.__struct_fields__))
    return _Body([choice], *map(payload.get, _Body.__struct_fields__[1:]))


def _text(message: Any) -> str | None:
    text = text_of(as_object(message).get("content"))
    if not text and as_object(message).get("refusal"):
        raise BadReply("refused", "the teacher refused to answer")
    return text


# -- logprobs ------------------------------------------------------------------------------------------------


def _reported(logprobs: Any) -> Reported | None:
    """The tokens; None for `logprobs: null`, an empty object or an empty list: the server gives no logprobs."""
    if isinstance(logprobs, dict):
        content = logprobs.get("content")
        if isinstance(content, list) and content:
            return Reported([_lenient(entry) for entry in content], [_lenient_candidates(entry) for entry in content])
        logprobs = _Logprobs(None, *map(logprobs.get, _Logprobs.__struct_fields__[1:]))
    if not isinstance(logprobs, _Logprobs):
        return None
    if logprobs.content:
        return Reported(logprobs.content, [step.top_logprobs or () for step in logprobs.content])
    return _from_lists(logprobs) if logprobs.tokens and isinstance(logprobs.tokens, list) else None


def _lenient(entry: Any) -> ReportedToken:
    if not isinstance(entry, dict):
        raise BadReply("malformed_logprobs", "a token of the logprobs is not an object")
    return lenient_token(entry.get("logprob"), entry.get("id"), entry.get("token"), entry.get("bytes"))


def _lenient_candidates(entry: Mapping[str, Any]) -> list[ReportedToken]:
    candidates = entry.get("top_logprobs")
    if candidates is None:
        return []
    if not isinstance(candidates, list):
        raise BadReply("malformed_logprobs", "the candidates of a token are not a list")
    return [_lenient(candidate) for candidate in candidates]


def _from_lists(logprobs: _Logprobs) -> Reported:
    """The tokens of OpenAI's older completions, which some servers still send: parallel lists, and a map a step."""
    tokens, values, tops, ids = logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, logprobs.token_ids
    if not (isinstance(values, list) and isinstance(tops, list) and len(tokens) == len(values) == len(tops)):
        raise BadReply("malformed_logprobs", "the lists of tokens and of logprobs differ in length")
    if not all(top is None or isinstance(top, dict) for top in tops):
        raise BadReply("malformed_logprobs", "the candidates of a token are not a map")
    known = ids if isinstance(ids, list) and len(ids) == len(tokens) else [None] * len(tokens)
    return Reported(
        [lenient_token(value, index, token) for token, value, index in zip(tokens, values, known, strict=True)],
        [
            # The map has no ids: the sampled token has to be recognized in it.
            [lenient_token(value, index if text == token else None, text) for text, value in (top or {}).items()]
            for token, top, index in zip(tokens, tops, known, strict=True)
        ],
    )


def list_of_models(payload: Any, name: str) -> list[Any]:
    """The list of this name in an answer. BadReply for an answer of another kind.

    Some servers give null, or an empty object, where there are none.
    """
    given = payload.get(name, None if payload == {} else 0) if isinstance(payload, dict) else 0
    if not isinstance(given, list | None):
        raise BadReply("not_json", "the reply is not a list of models")
    return given or []
