"""How many tokens a request can have cost, and what is believed of a server's own count. Knows no prices."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from bitnet_core.teachers.answers.result import ChatResult

Messages = Sequence[Mapping[str, str]]

_TOKENS_PER_MESSAGE = 32
"""More than any chat template adds to a message."""
_TOKENS_PER_REQUEST = 128
"""Twice the longest known preface of a server (gpt-oss: some 65 tokens before a prompt of one)."""
_MOST_ADDED = 1 << 16
"""Tokens that a server may add to a prompt: its own instructions, tools, or what it has searched for."""
_MOST_HIDDEN = 1 << 17
"""Tokens of hidden thinking that a server may count beyond the limit: the longest answers that models give today."""


def most_prompt_tokens(messages: Messages) -> int:
    """The tokens of a prompt, at most, where a server adds no more than a template does: each is at least a byte."""
    return _TOKENS_PER_REQUEST + sum(len(one["content"].encode()) + _TOKENS_PER_MESSAGE for one in messages)


def believed(result: ChatResult, messages: Messages, max_tokens: int) -> ChatResult:
    """The result; a count that such a request can't have cost is taken as not given."""
    return believed_prompt(believed_completion(result, max_tokens), messages)


def believed_prompt(result: ChatResult, messages: Messages) -> ChatResult:
    """As `believed`, for the tokens of the prompt."""
    absurd = is_absurd(result.prompt_tokens, 0, messages, 0)
    return replace(result, prompt_tokens=0) if absurd else result


def believed_completion(result: ChatResult, max_tokens: int) -> ChatResult:
    """As `believed`, for the tokens of the answer: those that are there are counted."""
    there = len(result.steps or ())
    absurd = is_absurd(0, result.completion_tokens, (), max(max_tokens, there))
    return replace(result, completion_tokens=there) if absurd else result


def is_absurd(prompt_tokens: int, completion_tokens: int, messages: Messages, max_tokens: int) -> bool:
    """Whether a request with these messages and this limit can't have cost as many tokens of one kind."""
    too_long = prompt_tokens > most_prompt_tokens(messages) + _MOST_ADDED
    return too_long or completion_tokens > max_tokens + _MOST_HIDDEN


def is_absurd_overrun(prompt_tokens: int, completion_tokens: int) -> bool:
    """Whether a believed count can't have exceeded a worst case by as much."""
    return prompt_tokens > _MOST_ADDED or completion_tokens > _MOST_HIDDEN
