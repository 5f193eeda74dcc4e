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
_COMPARED = 32
"""Spellings of one id, at most."""
_UNSEEN = (object(), None, -1)


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


def compared(reported: Reported, table: TokenTable) -> tuple[Completion, bool]:
    """The tokens as columns, and whether candidates, but no sampled token, have bytes that are not their text's.

    Where sampled tokens have such bytes too, the server writes texts in its own way, and the bytes are right.
    Candidates stay in the order reported. A missing logprob becomes NaN, which rejects the sequence later, with its
    reason. BadReply for a token without bytes and text.
    """
    doubtful: list[bool] = []  # of the sampled tokens, of the candidates

    def numbers(tokens: Sequence[ReportedToken]) -> list[int]:
        found, contradiction = _numbers(tokens, table)
        doubtful.append(contradiction)
        return found

    return _columns(reported, numbers, table), doubtful == [False, True]


def false_ids(steps: Completion) -> frozenset[int]:
    """The ids that are those of several unrelated tokens, and thus no ids: some servers write 0 or a rank there."""
    table = steps.table
    if not table.ids_with_several:
        return frozenset()
    used = np.unique(np.append(steps.sampled_N, steps.tops_NK)).tolist()
    numbers = [number for number in used if number >= 0 and table.ids[number] in table.ids_with_several]
    spellings: dict[int, list[bytes]] = {}
    for number in numbers:
        spellings.setdefault(table.ids[number], []).append(table.spellings[number])
    return frozenset(index for index, alike in spellings.items() if not _are_one_token(alike))


def _are_one_token(spellings: Sequence[bytes]) -> bool:
    return all(token_names.one_token(*pair) for pair in itertools.combinations(spellings[:_COMPARED], 2))


def without_ids(reported: Reported, ids: frozenset[int]) -> Reported:
    """The tokens, as if the server had left these ids out."""

    def told(token: ReportedToken) -> ReportedToken:
        return msgspec.structs.replace(token, id=None) if token.id in ids else token

    return Reported(
        [told(token) for token in reported.sampled], [[told(token) for token in step] for step in reported.candidates]
    )


def respelled(reported: Reported, table: TokenTable, spelling: Callable[[str], bytes | None]) -> Completion | None:
    """As `compared`, with each token's bytes made from its text by `spelling`; None if that fails for any of them."""
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


def _numbers(tokens: Sequence[ReportedToken], table: TokenTable) -> tuple[list[int], bool]:
    """The number of each token, and whether any has a text that contradicts its bytes.

    One lookup for those seen before, and only the others one by one.
    """
    keys: Sequence[int | bytes | None] = [token.id for token in tokens]
    if None in keys:
        keys = [_key(token) for token in tokens]
    seen = [table.by_json.get(key, _UNSEEN) for key in keys]
    numbers = [number for _, _, number in seen]
    contradiction = False
    data_given, texts_given = [token.bytes for token in tokens], [token.token for token in tokens]
    if [data for data, _, _ in seen] != data_given or [text for _, text, _ in seen] != texts_given:
        for place, (data, text, _) in enumerate(seen):
            if data != data_given[place] or text != texts_given[place]:
                numbers[place], doubtful = _number(tokens[place], table)
                contradiction = contradiction or doubtful
    return numbers, contradiction


def _number(token: ReportedToken, table: TokenTable) -> tuple[int, bool]:
    """The number of one token, remembered by its JSON, and whether its text contradicts its bytes."""
    raw = isinstance(token.bytes, msgspec.Raw)
    data = decode(bytes(token.bytes)) if raw else token.bytes
    if not isinstance(data, list) or (not data and token.token):  # a text without bytes has lost them
        if token.token is None:
            raise BadReply("malformed_logprobs", "a token has neither bytes nor text")
        return table.number(_id(token), token_names.text_bytes(token.token)), False
    try:
        given = bytes(data)
    except (ValueError, TypeError) as error:
        raise BadReply("malformed_logprobs", "the bytes of a token are not bytes") from error
    number = table.number(_id(token), given)
    if token.token is not None and token_names.contradicts(token.token, given):
        return number, True
    if raw:
        table.by_json[_key(token)] = (token.bytes.copy(), token.token, number)
    return number, False


def _key(token: ReportedToken) -> int | bytes | None:
    if token.id is not None and token.id >= 0:
        return token.id
    return bytes(token.bytes) if isinstance(token.bytes, msgspec.Raw) else None


def _id(token: ReportedToken) -> int:
    return token.id if token.id is not None and 0 <= token.id < _ID_LIMIT else -1
