"""One answer, whatever the wire format, and the numbers that servers send beside its text."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bitnet_core.teachers.answers.errors import BadReply, as_bad_reply
from bitnet_core.text import is_utf8
from bitnet_core.tokenizer.steps import Completion, TokenTable

_TOKENS_LIMIT = 1 << 31


@dataclass(frozen=True)
class ChatResult:
    """One answer. `steps` is None when the server sent no logprobs."""

    text: str
    steps: Completion | None
    finish_reason: str
    """In OpenAI's vocabulary, whatever the provider; "" if the server gives none."""
    prompt_tokens: int
    """0 if the server does not report it."""
    completion_tokens: int
    """0 if the server does not report it and there are no steps to count; `counted` tells the two zeros apart."""
    text_matches_bytes: bool
    """Whether the tokens' bytes are the text's; if not, one of them is wrong."""
    timings: Mapping[str, float]
    """llama.cpp's own clock (predicted_per_second, …); empty elsewhere."""
    model: str
    body: bytes = field(repr=False)
    """The body it was read from, as received."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """What was repaired in the tokens: how often, by kind."""
    upstream: str = ""
    """Who answered behind a router, if the router says so."""

    @property
    def counted(self) -> bool:
        """Whether the number of the answer's tokens is known."""
        return self.completion_tokens > 0 or self.steps is not None


Reader = Callable[[bytes, TokenTable], ChatResult]
"""Reads a body of one wire format. May raise anything for a body of another shape; see `read_checked`."""


def read_checked(reader: Reader, body: bytes, table: TokenTable) -> ChatResult:
    """What `reader` makes of `body`, with text that can be encoded as UTF-8. Raises BadReply and nothing else."""
    with as_bad_reply(body):
        return checked(reader(body, table))


def checked(result: ChatResult) -> ChatResult:
    """The result. BadReply if any of its text can't be encoded as UTF-8."""
    if not all(map(is_utf8, (result.text, result.finish_reason, result.model, result.upstream))):
        raise BadReply("malformed_text", "the answer's text holds half a surrogate pair")
    return result


def token_count(value: Any, default: int) -> int:
    """A reported number of tokens, or `default` if it is not a plausible one."""
    plausible = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _TOKENS_LIMIT
    return value if plausible else default


def finite_numbers(value: Any) -> Mapping[str, float]:
    """The finite numbers of a JSON object, by name; none for anything else."""
    if not isinstance(value, dict):
        return {}
    return {
        str(name): float(number)
        for name, number in value.items()
        if isinstance(number, int | float) and math.isfinite(number)
    }
