"""Read what OpenAI-compatible servers answer to /chat/completions. Pure: bodies in, results or faults out.

Shapes met in the wild are handled here and in `answer_tokens`: an end-of-text entry without bytes or with its
spelling, no `bytes` at all or those of another spelling of the token, -9999.0, null logprobs, fewer or one more
candidate than asked for, text that is trimmed or cut inside a character, the older list of lists, HTML, an error sent
with status 200. What is mended is counted; what can't be is a BadReply, or `text_matches_bytes` says so.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.teachers.answers.finish import finish_of
from bitnet_core.teachers.answers.tokens import completion_of
from bitnet_core.text import is_utf8
from bitnet_core.tokenizer.steps import Completion, TokenTable

__all__ = ["BadReply", "ChatResult", "checked", "count", "guarded", "parse_chat", "timings"]

_MOST_COUNTED = 1 << 31
_SHOWN = 200


@dataclass(frozen=True)
class ChatResult:
    """One answer. `steps` is None when the server sent no logprobs."""

    text: str
    steps: Completion | None
    finish_reason: str
    """In OpenAI's words, whoever answered."""
    prompt_tokens: int
    """0 where it is not told."""
    completion_tokens: int
    """0 where it is not told and there are no steps to count; `counted` says which."""
    text_matches_bytes: bool
    """Whether the tokens' bytes are the text's: else the one or the other is wrong."""
    timings: Mapping[str, float]
    """llama.cpp's own clock (predicted_per_second, …); empty elsewhere."""
    model: str
    body: bytes = field(repr=False)
    """What it was read from, as it came."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """What was mended in the tokens, by kind."""
    upstream: str = ""
    """Who answered behind a router that names it."""

    @property
    def counted(self) -> bool:
        """Whether it is known how many tokens the answer has."""
        return self.completion_tokens > 0 or self.steps is not None


def checked(read: Callable[[], ChatResult], body: bytes) -> ChatResult:
    """What `read` reads from `body`, as text that can be written down; raises as `guarded` does."""
    with guarded(body):
        result = read()
        if not all(map(is_utf8, (result.text, result.finish_reason, result.model, result.upstream))):
            raise BadReply("malformed_text", "the answer's text holds half a surrogate pair")
    return result


@contextlib.contextmanager
def guarded(body: bytes) -> Iterator[None]:
    """BadReply, with the body, for whatever is not of the shape that a reader expects.

    The one place for it: a reader looks at what it needs, and a server may send anything there.
    """
    try:
        yield
    except BadReply as error:
        error.body = error.body or body
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadReply("not_json", "the answer is no JSON", body) from error
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RecursionError) as error:
        raise BadReply(
            "malformed", f"the answer has a shape that nothing documents ({error})"[:_SHOWN], body
        ) from error


def parse_chat(payload: Any, body: bytes, table: TokenTable) -> ChatResult:
    """The result in a decoded body. Raises BadReply."""
    choice = _first_choice(payload)
    failure = choice.get("error")
    if failure:
        told = failure.get("message") if isinstance(failure, dict) else failure
        raise BadReply("error", f"the server failed on the way ({told})"[:_SHOWN])
    finish_reason = finish_of(choice.get("finish_reason"))
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    refusal = message.get("refusal") if isinstance(message, dict) else None
    if refusal and not text:
        raise BadReply("refused", "the teacher refused to answer")
    if not isinstance(text, str):
        raise BadReply("no_text", "the answer holds no text")
    told = completion_of(_content(choice.get("logprobs")), text, finish_reason, table)
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return ChatResult(
        text=told.text,
        steps=told.steps,
        finish_reason=finish_reason,
        prompt_tokens=count(usage.get("prompt_tokens"), 0),
        completion_tokens=count(usage.get("completion_tokens"), len(told.steps or ())),
        text_matches_bytes=told.matches,
        timings=timings(payload.get("timings")),
        model=str(payload.get("model") or ""),
        body=body,
        repairs=told.repairs,
        upstream=str(payload.get("provider") or ""),
    )


def _first_choice(payload: Any) -> Mapping[str, Any]:
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply("no_choice", "the answer holds no choice")
    return choices[0]


def _content(logprobs: Any) -> list[Any] | None:
    """The entries; None for `logprobs: null`, an empty object or a list of nothing: the server does no logprobs."""
    if not isinstance(logprobs, dict):
        return None
    content = logprobs.get("content")
    if isinstance(content, list) and content:
        return content
    return _from_lists(logprobs) if isinstance(logprobs.get("tokens"), list) else None


def _from_lists(logprobs: Mapping[str, Any]) -> list[Any] | None:
    """The shape of OpenAI's older completions, which some servers still send: parallel lists, and a map a step."""
    tokens, values, tops = (logprobs.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    ids = logprobs.get("token_ids")
    if not tokens or not isinstance(tokens, list):
        return None
    if not (isinstance(values, list) and isinstance(tops, list) and len(tokens) == len(values) == len(tops)):
        raise BadReply("malformed_logprobs", "its lists of tokens and of logprobs don't have one length")
    if not all(top is None or isinstance(top, dict) for top in tops):
        raise BadReply("malformed_logprobs", "the candidates of a token are no map")
    known = ids if isinstance(ids, list) and len(ids) == len(tokens) else [-1] * len(tokens)
    return [
        {
            "token": token,
            "logprob": value,
            "id": index,
            "top_logprobs": [
                # The map has no ids: what was sampled has to be known again in it.
                {"token": other, "logprob": logprob, "id": index if other == token else -1}
                for other, logprob in (top or {}).items()
            ],
        }
        for token, value, top, index in zip(tokens, values, tops, known, strict=True)
    ]


def count(value: Any, otherwise: int) -> int:
    """A number of tokens, if it is one."""
    known = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_COUNTED
    return value if known else otherwise


def timings(value: Any) -> Mapping[str, float]:
    if not isinstance(value, dict):
        return {}
    return {
        str(name): float(number)
        for name, number in value.items()
        if isinstance(number, int | float) and math.isfinite(number)
    }
