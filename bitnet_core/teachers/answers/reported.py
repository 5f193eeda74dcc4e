"""Tokens as a server reports them, and the columns made of them. Pure: knows neither the text nor the wire format.

An answer has a few hundred steps with twenty candidates each, and nearly all of their tokens were seen before. Such a
token costs one lookup: its bytes are compared as they stand in the JSON, without decoding them.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from bitnet_core.teachers.answers import token_names
from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.answers.result import BadReply
from bitnet_core.tokenizer.steps import Completion, TokenTable

_ID_LIMIT = 1 << 31
_UNSEEN = (object(), -1)


class ReportedToken(msgspec.Struct, gc=False):
    """A sampled token or a candidate; None for what the server leaves out."""

    logprob: float | None = None
    id: int | None = None
    token: str | None = None
    bytes: msgspec.Raw = msgspec.Raw(b"null")
    """JSON that is not decoded yet; in a token from `lenient_token`, a decoded value of any type."""


@dataclass(frozen=True)
class Reported:
    """The tokens of an answer: those sampled, and the candidates of each."""

    sampled: Sequence[ReportedToken]
    candidates: Sequence[Sequence[ReportedToken]]


def lenient_token(logprob: Any, index: Any, token: Any, data: Any = None) -> ReportedToken:
    """A token from values of any type; a value of the wrong type counts as left out."""
    number = isinstance(logprob, int | float) and not isinstance(logprob, bool)
    return ReportedToken(
        logprob if number else None,
        index if isinstance(index, int) and not isinstance(index, bool) else None,
        token if isinstance(token, str) else None,
        data,
    )


def columns(reported: Reported, table: TokenTable) -> Completion:
    """The tokens as columns, with candidates in the order reported. BadReply for a token without bytes and text.

    A missing logprob becomes NaN, which rejects the sequence later, with its reason.
    """
    return _columns(reported, lambda tokens: _numbers(tokens, table), table)


def respelled(reported: Reported, table: TokenTable, spelling: Callable[[str], bytes | None]) -> Completion | None:
    """As `columns`, with each token's bytes made from its text by `spelling`; None if that fails for any of them."""
    spelled: dict[str | None, bytes] = {}
    for token in itertools.chain(reported.sampled, *reported.candidates):
        if token.token not in spelled:
            data = None if token.token is None else spelling(token.token)
            if data is None:
                return None
            spelled[token.token] = data
    return _columns(
        reported, lambda tokens: [table.number(_id(token), spelled[token.token]) for token in tokens], table
    )


def _columns(
    reported: Reported, numbers: Callable[[Sequence[ReportedToken]], list[int]], table: TokenTable
) -> Completion:
    tops = list(itertools.chain.from_iterable(reported.candidates))
    return padded(
        table,
        numbers(reported.sampled),
        [token.logprob for token in reported.sampled],
        numbers(tops),
        [token.logprob for token in tops],
        [len(step) for step in reported.candidates],
    )


def padded(
    table: TokenTable,
    sampled: Sequence[int],
    logprobs: Sequence[float | None],
    tops: Sequence[int],
    top_logprobs: Sequence[float | None],
    counts: Sequence[int],
) -> Completion:
    """A completion from the candidates of all steps in one list, `counts` of them a step. None becomes NaN.

    The rows are padded to equal length with -1 and -inf.
    """
    width = max(counts, default=0)
    given_NK = np.arange(width) < np.array(counts, np.int64)[:, None]
    tops_NK, top_logprobs_NK = np.full(given_NK.shape, -1, np.int32), np.full(given_NK.shape, -np.inf)
    tops_NK[given_NK], top_logprobs_NK[given_NK] = tops, top_logprobs
    return Completion(table, np.array(sampled, np.int32), np.array(logprobs, np.float64), tops_NK, top_logprobs_NK)


def _numbers(tokens: Sequence[ReportedToken], table: TokenTable) -> list[int]:
    """The number of each token: one lookup for those seen before, and only the others one by one."""
    keys: Sequence[int | bytes | None] = [token.id for token in tokens]
    if None in keys:
        keys = [_key(token) for token in tokens]
    seen = [table.by_json.get(key, _UNSEEN) for key in keys]
    given = [token.bytes for token in tokens]
    numbers = [number for _, number in seen]
    if [data for data, _ in seen] != given:
        for place, (data, _) in enumerate(seen):
            if data != given[place]:
                numbers[place] = _number(tokens[place], table)
    return numbers


def _number(token: ReportedToken, table: TokenTable) -> int:
    """The number of one token, remembered by its JSON."""
    raw = isinstance(token.bytes, msgspec.Raw)
    data = decode(bytes(token.bytes)) if raw else token.bytes
    if not isinstance(data, list):
        if token.token is None:
            raise BadReply("malformed_logprobs", "a token has neither bytes nor text")
        return table.number(_id(token), token_names.text_bytes(token.token))
    try:
        number = table.number(_id(token), bytes(data))
    except (ValueError, TypeError) as error:
        raise BadReply("malformed_logprobs", "the bytes of a token are not bytes") from error
    if raw:
        table.by_json[_key(token)] = (token.bytes.copy(), number)
    return number


def _key(token: ReportedToken) -> int | bytes | None:
    if token.id is not None and token.id >= 0:
        return token.id
    return bytes(token.bytes) if isinstance(token.bytes, msgspec.Raw) else None


def _id(token: ReportedToken) -> int:
    return token.id if token.id is not None and 0 <= token.id < _ID_LIMIT else -1
