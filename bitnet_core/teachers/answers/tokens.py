"""The tokens of an answer, as columns, held against its text. Pure: entries in, a completion or a fault out.

What is mended is sure, and counted. A candidate that is no text, or of which the bytes are lost, is left out: what is
not in the list is in Other, so that its mass never goes to another token. What decides is the answer alone, so that
one answer gives the same columns whenever it is read.
"""

import codecs
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet_core.teachers.answers import token_names as spellings
from bitnet_core.teachers.answers.errors import BadReply
from bitnet_core.tokenizer.steps import Completion, TokenTable

_ROUNDING = 0.01
"""Nats by which one token's logprob may differ where a server says it twice."""
_IDS = 1 << 31


@dataclass(frozen=True)
class Told:
    """The tokens of an answer, held against its text."""

    steps: Completion | None
    text: str
    """The answer's text, without an end that was spelled out in it."""
    matches: bool = True
    repairs: Mapping[str, int] = field(default_factory=dict)


def completion_of(content: Sequence[Any] | None, text: str, finish_reason: str, table: TokenTable) -> Told:
    """The tokens of a list of entries as OpenAI writes them, held against the text, and mended where that is sure.

    Raises BadReply for entries that can't be read at all.
    """
    if not content:
        return Told(None, text)
    first: Completion | None = None
    for name, spelling in (("", None), ("raw_tokens", spellings.raw_spelling), ("pieces", spellings.piece_spelling)):
        entries = content if spelling is None else _respelled(content, spelling)
        if entries is None:
            continue
        steps = columns(entries, table)
        first = steps if first is None else first
        matched, spelled_end = _matched(steps.text(), text), False
        if matched is None and _may_end(entries[-1]):
            last = table.spellings[steps.sampled_N[-1]]
            matched = _matched(steps.text().removesuffix(last), text)
            spelled_end = matched is not None
        if matched is None:
            continue
        told = mended(steps, text, finish_reason, spelled_end=spelled_end)
        repairs = dict(told.repairs) | ({name: len(content)} if name else {})
        return replace(told, repairs=repairs | ({"trimmed_text": 1} if matched == "trimmed" else {}))
    if first is None:
        raise AssertionError("the entries as they are were read")
    return mended(first, text, finish_reason, matches=False)


def mended(
    steps: Completion, text: str, finish_reason: str, *, spelled_end: bool = False, matches: bool = True
) -> Told:
    """The steps with their end known as one, each candidate once, most likely first, and none that is no text.

    `spelled_end`: the last token is told by a name that the text does not hold. Raises BadReply.
    """
    steps = _known_again(steps)
    table, sampled_N = steps.table, steps.sampled_N
    tops_NK, top_NK = steps.tops_NK, steps.top_logprobs_NK
    repairs: dict[str, int] = {}
    kind_V = spellings.kinds(table)
    end, told = _end(steps, text, finish_reason, spelled_end)
    _check_sampled(steps, kind_V, end, matches)
    kind_NK = kind_V[tops_NK]
    if kind_NK.any():
        # What was said is text.
        keep_NK = (tops_NK == sampled_N[:, None]) & (kind_NK != spellings.EMPTY)
        if end:
            keep_NK |= np.isin(tops_NK, end)
        empty_NK = kind_NK == spellings.EMPTY  # two of them, and nobody knows which is the end
        keep_NK &= ~(empty_NK & (empty_NK.sum(axis=1, keepdims=True) > 1))
        lost_NK = (kind_NK > 0) & ~keep_NK
        special = int((lost_NK & (kind_NK == spellings.SPECIAL)).sum())
        repairs |= {"special_candidates": special, "unknown_candidates": int(lost_NK.sum()) - special}
        tops_NK, top_NK = np.where(lost_NK, -1, tops_NK), np.where(lost_NK, -np.inf, top_NK)
    if end and table.spellings[end[0]]:
        blank = table.number(table.ids[end[0]], b"")
        before_N1 = np.arange(len(sampled_N))[:, None] < len(sampled_N) - 1
        said_NK = (tops_NK == sampled_N[:, None]) & before_N1  # as text, not as the end
        tops_NK = np.where(np.isin(tops_NK, end) & ~said_NK, blank, tops_NK)
        sampled_N = np.append(sampled_N[:-1], np.int32(blank)).astype(np.int32)
        repairs["spelled_end"] = 1
    tops_NK, top_NK, repairs["repeated_candidates"] = _once(tops_NK, top_NK)
    tops_NK, top_NK = _ordered(tops_NK, top_NK)
    found = Completion(table, sampled_N, steps.logprobs_N, tops_NK, top_NK)
    return Told(found, told, matches, {name: number for name, number in repairs.items() if number})


def _known_again(steps: Completion) -> Completion:
    """With the sampled token as one with the candidate that it is, where only one of the two was told with an id."""
    table, sampled_N = steps.table, steps.sampled_N
    changed_N = sampled_N.copy()
    for row in np.flatnonzero(~(steps.tops_NK == sampled_N[:, None]).any(axis=1)).tolist():
        number = int(sampled_N[row])
        index, data = table.ids[number], table.spellings[number]
        for top in steps.tops_NK[row].tolist() if data else ():
            if top >= 0 and table.spellings[top] == data and (table.ids[top] < 0) != (index < 0):
                changed_N[row] = top
                break
    return steps if (changed_N == sampled_N).all() else replace(steps, sampled_N=changed_N)


def _end(steps: Completion, text: str, finish_reason: str, spelled_end: bool) -> tuple[list[int], str]:
    """The numbers that the end of the answer goes by, none where it did not end, and the text without its name."""
    table, last = steps.table, int(steps.sampled_N[-1])
    index, data = table.ids[last], table.spellings[last]
    if not data:
        if finish_reason == "length":
            reason = "bytes_missing" if index < 0 else "control_token"
            raise BadReply(reason, "the last token is told without bytes, and is not the end")
        return [last], text
    if not spelled_end:
        # A server that shows special tokens shows the end in the text, too.
        name = data.decode("utf-8", errors="replace")
        if finish_reason != "stop" or not spellings.is_special(name) or not text.endswith(name):
            return [], text
        text = text.removesuffix(name)
    # Where candidates are told by their text alone, the sampled token may have an id nevertheless.
    return [last] if index < 0 else [last, table.number(-1, data)], text


def _check_sampled(steps: Completion, kind_V: npt.NDArray[np.int8], end: Sequence[int], matches: bool) -> None:
    """Raises BadReply where the bytes of a token that was said are lost: the text that they are of is not known.

    A token that really is U+FFFD is believed where an id tells it from half a character and the text has it.
    """
    kind_N = kind_V[steps.sampled_N[: len(steps) - bool(end)]]
    for row in np.flatnonzero((kind_N == spellings.HALF) | (kind_N == spellings.EMPTY)).tolist():
        if not matches or steps.table.ids[steps.sampled_N[row]] < 0:
            raise BadReply("bytes_missing", "a token is half a character and comes without its bytes")


# -- text ------------------------------------------------------------------------------------------------


def _matched(joined: bytes, text: str) -> str | None:
    """How the tokens' bytes are the text: "exact" (or cut inside the last character), "trimmed", or not at all."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    said = decoder.decode(joined)
    cut = len(decoder.getstate()[0])
    if text == said or text in [said + "\ufffd" * lost for lost in range(1, cut + 1)]:
        return "exact"
    # The server took blanks off its text; blanks that the tokens lack are tokens that are not told.
    return "trimmed" if text.strip() and text in said and said.strip() == text.strip() else None


def _may_end(entry: Any) -> bool:
    token = entry.get("token") if isinstance(entry, dict) else None
    return isinstance(token, str) and spellings.looks_special(token)


def _respelled(content: Sequence[Any], spelling: Callable[[str], bytes | None]) -> list[dict[str, Any]] | None:
    """The entries with bytes made from their tokens' own spelling; None where that can't be."""

    def one(entry: Mapping[str, Any]) -> dict[str, Any]:
        token = entry.get("token")
        data = spelling(token) if isinstance(token, str) else None
        if data is None:
            raise ValueError
        return {**entry, "bytes": list(data)}

    try:
        return [{**one(entry), "top_logprobs": [one(top) for top in _candidates(entry)]} for entry in content]
    except ValueError:
        return None


# -- columns ---------------------------------------------------------------------------------------------


def columns(content: Sequence[Any], table: TokenTable) -> Completion:
    """The entries as columns, with candidates as they were told. Raises BadReply.

    A token that was met before costs one lookup: a corpus holds a billion candidates and few different ones.
    """
    sampled: list[int] = []
    own: list[Any] = []
    tops: list[int] = []
    logprobs: list[Any] = []
    counts: list[int] = []
    met = table.met
    for entry in content:
        if not isinstance(entry, dict):
            raise BadReply("malformed_logprobs", "a logprobs entry is no object")
        candidates = _candidates(entry)
        sampled.append(number_of(entry, table))
        own.append(entry.get("logprob"))
        for one in candidates:
            try:
                known, number = met[one["id"]]
                if known != one["bytes"] or one["id"] is True:  # which Python takes for 1
                    number = number_of(one, table)
            except (KeyError, TypeError):
                number = number_of(one, table)
            tops.append(number)
            logprobs.append(one.get("logprob"))
        counts.append(len(candidates))
    return padded(table, sampled, _floats(own), tops, _floats(logprobs), np.array(counts, np.int64))


def _candidates(entry: Mapping[str, Any]) -> list[Any]:
    found = entry.get("top_logprobs")
    if found is None:
        return []
    if not isinstance(found, list):
        raise BadReply("malformed_logprobs", "the candidates of a token are no list")
    return found


def number_of(entry: Any, table: TokenTable) -> int:
    """The number of an entry's token, remembered by its id where it has one. Raises BadReply."""
    if not isinstance(entry, dict):
        raise BadReply("malformed_logprobs", "a candidate is no object")
    index, data = _id(entry), entry.get("bytes")
    number = table.number(index, _bytes(entry))
    if index >= 0 and isinstance(data, list):
        table.met[index] = (data, number)
    return number


def _floats(values: list[Any]) -> npt.NDArray[np.float64]:
    """A missing or null number becomes NaN, which rejects the sequence later, with its reason."""
    if not set(map(type, values)) <= {float, int}:
        values = [
            float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
            for value in values
        ]
    return np.array(values, np.float64)


def padded(
    table: TokenTable,
    sampled: list[int],
    own_N: npt.NDArray[np.float64],
    tops: list[int],
    logprobs: npt.NDArray[np.float64],
    counts_N: npt.NDArray[np.int64],
) -> Completion:
    """Rows of equal length, as they were told."""
    width = int(counts_N.max(initial=0))
    place_NK = np.arange(width)[None, :] < counts_N[:, None]
    tops_NK = np.full((len(sampled), width), -1, np.int32)
    top_NK = np.full((len(sampled), width), -np.inf)
    tops_NK[place_NK], top_NK[place_NK] = tops, logprobs
    return Completion(table, np.array(sampled, np.int32), own_N, tops_NK, top_NK)


def _once(
    tops_NK: npt.NDArray[np.int32], top_NK: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], int]:
    """Each candidate once, and how many were told again: some servers repeat the sampled token at the end, and
    counted twice it would gain mass. Raises BadReply for one token with two logprobs."""
    apart_NK = np.where(tops_NK >= 0, tops_NK, -1 - np.arange(tops_NK.shape[1]))
    twice = np.flatnonzero((np.diff(np.sort(apart_NK, axis=1)) == 0).any(axis=1))
    repeated = 0
    for row in twice.tolist():
        found: dict[int, float] = {}
        for number, logprob in zip(tops_NK[row].tolist(), top_NK[row].tolist(), strict=True):
            if number < 0:
                continue
            before = found.get(number, logprob)
            if before != logprob and abs(before - logprob) > _ROUNDING:
                raise BadReply("malformed_logprobs", "one candidate is told with two logprobs")
            repeated += number in found
            found[number] = float(np.maximum(before, logprob))  # NaN stays, and is the sequence's fault
        tops_NK[row], top_NK[row] = -1, -np.inf
        tops_NK[row, : len(found)], top_NK[row, : len(found)] = list(found), list(found.values())
    return tops_NK, top_NK, repeated


def _ordered(
    tops_NK: npt.NDArray[np.int32], top_NK: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Most likely first; NaN counts as the least likely, before the padding."""
    with np.errstate(invalid="ignore"):
        unordered = np.flatnonzero(~(top_NK[:, 1:] <= top_NK[:, :-1]).all(axis=1))
    if len(unordered):
        rank = np.where(np.isnan(top_NK[unordered]), -1e300, top_NK[unordered])
        order = np.argsort(-rank, axis=1, kind="stable")
        tops_NK[unordered] = np.take_along_axis(tops_NK[unordered], order, axis=1)
        top_NK[unordered] = np.take_along_axis(top_NK[unordered], order, axis=1)
    return tops_NK, top_NK


def _id(entry: Mapping[str, Any]) -> int:
    index = entry.get("id")
    return index if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < _IDS else -1


def _bytes(entry: Mapping[str, Any]) -> bytes:
    """The exact bytes, or the text's when the server sends none."""
    data = entry.get("bytes")
    if isinstance(data, list):
        try:
            return bytes(data)
        except (ValueError, TypeError) as error:
            raise BadReply("malformed_logprobs", "the bytes of a token are no bytes") from error
    token = entry.get("token")
    if not isinstance(token, str):
        raise BadReply("malformed_logprobs", "a logprobs entry has neither bytes nor text")
    return spellings.text_bytes(token)
