"""One answer, or why it can't be used, whatever the wire format.

Also reads what servers send beside the text: numbers, and the reason why the answer ended.
"""

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitnet_core.teachers.answers.json_body import as_object
from bitnet_core.text import flat, is_utf8
from bitnet_core.tokenizer.finish import FILTERED, common_finish, has_ended
from bitnet_core.tokenizer.steps import Completion, TokenTable

_FROM_GATEWAY = frozenset({"stream_cut", "not_json", "error", "other_upstream"})
_RETRYABLE = _FROM_GATEWAY | {"no_choice", "no_text"}
_SHOWN = 300
"""Signs of a detail, which may quote the server."""
_LONGEST_NAME = 300
"""Signs: a model may be named by the path of its file."""
_TOKENS_LIMIT = 1 << 31


@dataclass(frozen=True)
class Repaired:
    """The text of an answer and its tokens after all repairs."""

    text: str
    """Without the name of an end-of-text token."""
    steps: Completion | None = None
    """None when the server sent no logprobs."""
    text_matches_bytes: bool = True
    """Whether the tokens' bytes are the text's; if not, one of them is wrong."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """What was repaired in the tokens: how often, by kind."""
    candidates: int = 0
    """The most candidates that a step came with, each counted once, those left out included."""


@dataclass(frozen=True, kw_only=True)
class ChatResult(Repaired):
    """One answer."""

    finish_reason: str
    """In OpenAI's vocabulary, whatever the provider; "" if the server gives none."""
    prompt_tokens: int
    """0 if the server does not report it."""
    completion_tokens: int
    """0 if the server does not report it and there are no steps to count; `counted` tells the two zeros apart."""
    model: str
    body: bytes = field(repr=False)
    """The body it was read from, as received."""
    timings: Mapping[str, float] = field(default_factory=dict)
    """llama.cpp's own clock (predicted_per_second, …); empty elsewhere."""
    upstream: str = ""
    """Who answered behind a router, if the router says so."""
    fingerprint: str = ""
    """Which build or configuration of the model answered, if the server says so."""

    @property
    def counted(self) -> bool:
        """Whether the number of the answer's tokens is known."""
        return self.completion_tokens > 0 or self.steps is not None


class BadReply(Exception):
    """The answer is not what was asked for; `reason` is a short code that is counted."""

    def __init__(self, reason: str, detail: str, body: bytes = b"") -> None:
        super().__init__(flat(detail)[:_SHOWN])
        self.reason = reason
        self.body = body
        """The body that was received, if known: it is kept like every answer."""

    @property
    def retryable(self) -> bool:
        """Whether a gateway may have failed briefly, so that the same request may get another answer."""
        return self.reason in _RETRYABLE

    @property
    def from_gateway(self) -> bool:
        """Whether such a body usually comes from a gateway, not from the model."""
        return self.reason in _FROM_GATEWAY


@contextlib.contextmanager
def as_bad_reply(body: bytes) -> Iterator[None]:
    """Turn every failure to read `body` into a BadReply that carries the body.

    Readers look only at what they need, and a server may send anything there. This is the one place that catches it.
    """
    try:
        yield
    except BadReply as error:
        error.body = error.body or body
        raise
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadReply("not_json", "the answer is not JSON", body) from error
    except (TypeError, ValueError, AttributeError, KeyError, ArithmeticError, RecursionError) as error:
        raise BadReply("malformed", "the answer has an undocumented shape", body) from error


Reader = Callable[[bytes, TokenTable | None], ChatResult]
"""Reads a body of one wire format. May raise anything for a body of another shape; see `read_checked`."""


def read_checked(reader: Reader, body: bytes, table: TokenTable | None) -> ChatResult:
    """What `reader` makes of `body`, with text that can be encoded as UTF-8. Raises BadReply and nothing else."""
    try:
        with as_bad_reply(body):
            return checked(reader(body, table))
    except BadReply as error:
        failure = error
    # It is kept until it is stored, and its tracebacks would keep all that was decoded.
    failure.__cause__ = failure.__context__ = None
    raise failure.with_traceback(None)


def checked(result: ChatResult) -> ChatResult:
    """The result. BadReply if any of its text can't be encoded as UTF-8."""
    if not all(map(is_utf8, (result.text, result.finish_reason, result.model, result.upstream, result.fingerprint))):
        raise BadReply("malformed_text", "the answer's text holds half a surrogate pair")
    return result


def short_name(name: Any) -> str:
    """A name that a server gives, cut if it is too long for one; "" for None."""
    text = str(name or "")
    return text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…"


def token_count(value: Any, default: int) -> int:
    """A reported number of tokens, or `default` if it is not a plausible one."""
    plausible = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOKENS_LIMIT
    return value if plausible else default


def finite_numbers(value: Any) -> Mapping[str, float]:
    """The finite numbers of a JSON object, by name; none for anything else. One too large for a float is left out."""
    found: dict[str, float] = {}
    for name, number in as_object(value).items():
        with contextlib.suppress(OverflowError):
            if isinstance(number, int | float) and math.isfinite(number):
                found[str(name)] = float(number)
    return found


def no_text(finish_reason: str) -> BadReply:
    """What an answer without text is; one that a filter withheld is not asked for again."""
    return BadReply("refused" if finish_reason == FILTERED else "no_text", "the answer holds no text")


def whole(result: ChatResult) -> ChatResult:
    """The answer. BadReply for one that a filter cut, by which the teacher can't be judged."""
    if result.finish_reason == FILTERED:
        raise BadReply("cut_by_filter", "a content filter cut the answer", result.body)
    return result


def finish_of(reason: Any) -> str:
    """The common name, "" for none, the server's own name if it is unknown. BadReply if it means a failure.

    A name stands in every row of the traces and in tables, so a text in its place is cut.
    """
    if reason is None or (isinstance(reason, str) and not has_ended(reason)):
        return ""
    if not isinstance(reason, str):
        raise BadReply("malformed", "the finish reason is not a string")
    name = common_finish(reason) or short_name(reason)
    if name == "error":
        raise BadReply("error", f"the server reports that it failed while answering ({reason})")
    return name
