"""Compare the tokens of an answer with its text, and repair what servers are known to get wrong. Pure.

Only repairs that are certain are made, and they are counted. A candidate that is not text, or whose bytes are lost,
is dropped. What is not listed is in Other, so its mass never goes to another token. The outcome depends on the answer
alone, so the same answer gives the same columns whenever it is read.
"""

import codecs
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bitnet_core.teachers.answers import token_names
from bitnet_core.teachers.answers.reported import Reported, compared, false_ids, respelled, without_ids
from bitnet_core.teachers.answers.result import BadReply, Repaired
from bitnet_core.tokenizer.mass import SENTINEL, log_sum_exp
from bitnet_core.tokenizer.steps import Completion, TokenTable

_Numbers = npt.NDArray[np.int32]
_Logprobs = npt.NDArray[np.float64]

_ROUNDING = 0.01
"""Nats by which two logprobs of one token may differ if a server gives it twice."""
_MOST_MASS = math.log(1.01)
"""More is not a rounding error."""


def completion_of(reported: Reported | None, text: str, finish_reason: str, table: TokenTable) -> Repaired:
    """The tokens in the first spelling whose bytes are the text's. BadReply for tokens that can't be read at all."""
    if reported is None:
        return Repaired(text)
    steps, doubtful = compared(reported, table)
    if no_ids := false_ids(steps):
        reported = without_ids(reported, no_ids)
        steps, doubtful = compared(reported, table)
    found = _repaired_if_matching(steps, reported, text, finish_reason)
    if found is not None:
        if doubtful:  # it is a copying fault: the text may be another candidate's as well as the bytes
            raise BadReply("contradictory_bytes", "the bytes of a candidate are not those of its text")
        return found
    for name, spelling in (("raw_tokens", token_names.raw_spelling), ("pieces", token_names.piece_spelling)):
        other = respelled(reported, table, spelling)
        found = None if other is None else _repaired_if_matching(other, reported, text, finish_reason)
        if found is not None:
            return replace(found, repairs={**found.repairs, name: len(reported.sampled)})
    return repaired(steps, text, finish_reason, matches=False)


def _repaired_if_matching(steps: Completion, reported: Reported, text: str, finish_reason: str) -> Repaired | None:
    joined, named_end = steps.text(), False
    match = _match(joined, text)
    if match is None and token_names.looks_special(reported.sampled[-1].token or ""):
        match = _match(joined.removesuffix(steps.table.spellings[steps.sampled_N[-1]]), text)
        named_end = True
    if match is None:
        return None
    found = repaired(steps, text, finish_reason, named_end=named_end)
    return replace(found, repairs={**found.repairs, "trimmed_text": 1}) if match == "trimmed" else found


def repaired(
    steps: Completion, text: str, finish_reason: str, *, named_end: bool = False, matches: bool = True
) -> Repaired:
    """The steps with the end of the answer recognized, each candidate once, most likely first, and text alone.

    `named_end`: the last token is given by a name that the text does not hold. Raises BadReply.
    """
    steps = _identify_sampled(steps)
    table, sampled_N = steps.table, steps.sampled_N
    tops_NK, repairs = steps.tops_NK, dict[str, int]()
    kind_V = token_names.kinds(table)
    end, shown = _end(steps, text, finish_reason, named_end)
    _check_sampled(steps, kind_V, end, matches)
    top_NK, repairs["corrected_candidates"] = _agreeing_with_sampled(steps, ends=bool(end))
    drop_NK, special = _not_text(tops_NK, sampled_N, kind_V, end)
    if dropped := int(drop_NK.sum()):
        repairs |= {"special_candidates": special, "unknown_candidates": dropped - special}
        tops_NK, top_NK = np.where(drop_NK, -1, tops_NK), np.where(drop_NK, -np.inf, top_NK)
    if end and table.spellings[end[0]]:
        blank = table.number(table.ids[end[0]], b"")
        before_last_N1 = np.arange(len(sampled_N))[:, None] < len(sampled_N) - 1
        text_NK = (tops_NK == sampled_N[:, None]) & before_last_N1  # sampled as text, not as the end
        tops_NK = np.where(np.isin(tops_NK, end) & ~text_NK, blank, tops_NK)
        sampled_N = np.append(sampled_N[:-1], np.int32(blank)).astype(np.int32)
        repairs["spelled_end"] = 1
    found = _deduplicated(tops_NK, top_NK, sampled_N, table)
    tops_NK, top_NK, repeated_N, repairs["merged_candidates"] = found
    repairs["repeated_candidates"] = int(repeated_N.sum())
    tops_NK, top_NK = _sorted(tops_NK, top_NK)
    return Repaired(
        text=shown,
        steps=Completion(table, sampled_N, steps.logprobs_N, tops_NK, top_NK),
        text_matches_bytes=matches,
        repairs={name: number for name, number in repairs.items() if number},
        candidates=int(((steps.tops_NK >= 0).sum(axis=1) - repeated_N).max()),
    )


def _not_text(
    tops_NK: _Numbers, sampled_N: _Numbers, kind_V: npt.NDArray[np.int8], end: Sequence[int]
) -> tuple[npt.NDArray[np.bool_], int]:
    """Which candidates are not text, or have lost their bytes, and how many of them are names of special tokens."""
    kind_NK = kind_V[tops_NK]
    if not kind_NK.any():
        return np.zeros(tops_NK.shape, np.bool_), 0
    # A sampled token is text.
    keep_NK = (tops_NK == sampled_N[:, None]) & (kind_NK != token_names.EMPTY)
    if end:
        keep_NK |= np.isin(tops_NK, end)
    empty_NK = kind_NK == token_names.EMPTY  # if there are two, it is unknown which one is the end
    keep_NK &= ~(empty_NK & (empty_NK.sum(axis=1, keepdims=True) > 1))
    drop_NK = (kind_NK > 0) & ~keep_NK
    return drop_NK, int((drop_NK & (kind_NK == token_names.SPECIAL)).sum())


def _identify_sampled(steps: Completion) -> Completion:
    """Make each sampled token equal to its candidate where the server gives an id for only one of the two."""
    table, sampled_N = steps.table, steps.sampled_N
    changed_N = sampled_N.copy()
    for row in np.flatnonzero(~(steps.tops_NK == sampled_N[:, None]).any(axis=1)).tolist():
        number = int(sampled_N[row])
        index, data = table.ids[number], table.spellings[number]
        alike = [
            place
            for place, top in enumerate(steps.tops_NK[row].tolist() if data else ())
            if top >= 0 and table.spellings[top] == data and (table.ids[top] < 0) != (index < 0)
        ]
        if alike:  # of two tokens with this text, the one with the sampled token's logprob
            apart_K = np.abs(steps.top_logprobs_NK[row, alike] - steps.logprobs_N[row])
            changed_N[row] = steps.tops_NK[row, alike[int(np.argmin(np.nan_to_num(apart_K, nan=np.inf)))]]
    return steps if (changed_N == sampled_N).all() else replace(steps, sampled_N=changed_N)


def _end(steps: Completion, text: str, finish_reason: str, named_end: bool) -> tuple[list[int], str]:
    """The numbers of the end-of-text token, none if the answer did not end, and the text without its name."""
    table, last = steps.table, int(steps.sampled_N[-1])
    index, data = table.ids[last], table.spellings[last]
    if not data:
        if finish_reason == "length":
            reason = "bytes_missing" if index < 0 else "control_token"
            raise BadReply(reason, "the last token has no bytes and is not the end")
        return [last], text
    if not named_end:
        # A server that shows special tokens shows the end in the text, too.
        name = data.decode("utf-8", errors="replace")
        if finish_reason != "stop" or not token_names.is_special(name) or not text.endswith(name):
            return [], text
        text = text.removesuffix(name)
    # Candidates may lack ids although the sampled token has one.
    return [last] if index < 0 else [last, table.number(-1, data)], text


def _check_sampled(steps: Completion, kind_V: npt.NDArray[np.int8], end: Sequence[int], matches: bool) -> None:
    """BadReply if the bytes of a sampled token are lost: the text it belongs to is then unknown.

    A token that really is U+FFFD is accepted if it has an id, which half a character has not, and the text holds it.
    """
    kind_N = kind_V[steps.sampled_N[: len(steps) - bool(end)]]
    for row in np.flatnonzero((kind_N == token_names.HALF) | (kind_N == token_names.EMPTY)).tolist():
        if not matches or steps.table.ids[steps.sampled_N[row]] < 0:
            raise BadReply("bytes_missing", "a token is half a character and comes without its bytes")


def _match(joined: bytes, text: str) -> str | None:
    """How the joined bytes match the text: "exact" (it may be cut inside its last character), "trimmed", or None."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    decoded = decoder.decode(joined)
    cut = len(decoder.getstate()[0])
    if text == decoded or text in [decoded + "\ufffd" * lost for lost in range(1, cut + 1)]:
        return "exact"
    # The server stripped its text. Blanks in the text that the tokens lack would be tokens that were left out.
    return "trimmed" if text.strip() and text in decoded and decoded.strip() == text.strip() else None


def _agreeing_with_sampled(steps: Completion, *, ends: bool) -> tuple[_Logprobs, int]:
    """The candidates' logprobs, and how many were corrected because the sampled token has another logprob of its own.

    Servers that keep a step's candidates in a map by their text lose all but one of two tokens with the same text.
    The token's own logprob is sure if the list is in order with it and out of order as it is, or if only with it the
    candidates' mass is at most 1. BadReply where neither value is sure.
    """
    tops_NK, top_NK, own_N = steps.tops_NK, steps.top_logprobs_NK, steps.logprobs_N
    sampled_NK = tops_NK == steps.sampled_N[:, None]
    with np.errstate(invalid="ignore"):
        usable_NK = (top_NK > SENTINEL) & (top_NK < np.inf) & (own_N > SENTINEL)[:, None]  # others are rejected later
        apart_NK = sampled_NK & usable_NK & (np.abs(top_NK - own_N[:, None]) > _ROUNDING)
        alike_NK = sampled_NK & ~apart_NK
    _refuse_excess(steps, sampled_NK, ends=ends)
    wrong = np.flatnonzero(apart_NK.any(axis=1) & ~alike_NK.any(axis=1))
    if not len(wrong):
        return top_NK, 0
    corrected_NK = top_NK.copy()
    for row in wrong.tolist():
        places = np.flatnonzero(apart_NK[row])
        corrected_NK[row, places[0]] = own_N[row]
        sure = _is_plausible(corrected_NK[row]) and not _is_plausible(top_NK[row])
        if len(places) > 1 or not sure:
            raise BadReply("contradictory_logprobs", "a sampled token has another logprob among its candidates")
    return corrected_NK, len(wrong)


def _refuse_excess(steps: Completion, sampled_NK: npt.NDArray[np.bool_], *, ends: bool) -> None:
    """BadReply if a sampled token is not listed although the list leaves no room for its logprob.

    An end (`ends`: the last token is one) may be listed by another name, and a token with an id in another spelling.
    """
    ids, spellings = steps.table.ids, steps.table.spellings
    for row in np.flatnonzero(~sampled_NK[: len(steps) - ends].any(axis=1)).tolist():
        tops_K, own = steps.tops_NK[row], float(steps.logprobs_N[row])
        listed = [float(value) for top, value in zip(tops_K, steps.top_logprobs_NK[row], strict=True) if top >= 0]
        index, data = ids[steps.sampled_N[row]], spellings[steps.sampled_N[row]]
        alike = [spellings[top] for top in tops_K.tolist() if top >= 0 and ids[top] == index >= 0]
        known = any(token_names.one_token(data, other) for other in alike)
        usable = listed and all(SENTINEL < one <= _MOST_MASS for one in (own, *listed))
        if usable and not known and log_sum_exp([own, *listed]) > _MOST_MASS:
            raise BadReply(
                "contradictory_logprobs", "a sampled token is not listed, and the list leaves no room for it"
            )


def _is_plausible(logprobs_K: _Logprobs) -> bool:
    """Whether a step's candidates are in order and their mass is at most 1."""
    listed_K = logprobs_K[logprobs_K > -np.inf]
    return bool((np.diff(listed_K) <= _ROUNDING).all()) and log_sum_exp(listed_K.tolist()) <= _MOST_MASS


def _deduplicated(
    tops_NK: _Numbers, top_NK: _Logprobs, sampled_N: _Numbers, table: TokenTable
) -> tuple[_Numbers, _Logprobs, npt.NDArray[np.int64], int]:
    """Each candidate once, how many were repeated in each step, and how many were merged.

    Some servers repeat the sampled token at the end of the list: with the same logprob it counts once. Otherwise a
    text that is listed twice without ids is that of two tokens, and has the mass of both. A token with an id counts
    once, and two logprobs are a contradiction: BadReply.
    """
    apart_NK = np.where(tops_NK >= 0, tops_NK, -1 - np.arange(tops_NK.shape[1]))
    twice = np.flatnonzero((np.diff(np.sort(apart_NK, axis=1)) == 0).any(axis=1))
    repeated_N, merged = np.zeros(len(tops_NK), np.int64), 0
    for row in twice.tolist():
        found: dict[int, list[float]] = {}
        for number, logprob in zip(tops_NK[row].tolist(), top_NK[row].tolist(), strict=True):
            if number < 0:
                continue
            values = found.setdefault(number, [])
            near = [place for place, value in enumerate(values) if not abs(value - logprob) > _ROUNDING]
            if near and (number == sampled_N[row] or table.ids[number] >= 0):
                repeated_N[row] += 1
                values[near[0]] = float(np.maximum(values[near[0]], logprob))  # NaN rejects the sequence later
                continue
            if values and table.ids[number] >= 0:
                raise BadReply("malformed_logprobs", "a candidate is listed with two logprobs")
            merged += bool(values)
            values.append(logprob)
        tops_NK[row], top_NK[row] = -1, -np.inf
        tops_NK[row, : len(found)] = list(found)
        top_NK[row, : len(found)] = [_added(values) for values in found.values()]
    return tops_NK, top_NK, repeated_N, merged


def _added(logprobs: Sequence[float]) -> float:
    """The logprob of a text that several tokens have; one that is not a logprob stays, and rejects the sequence."""
    return next((one for one in logprobs if not SENTINEL < one < np.inf), None) or log_sum_exp(logprobs)


def _sorted(tops_NK: _Numbers, top_NK: _Logprobs) -> tuple[_Numbers, _Logprobs]:
    """Most likely first; NaN counts as the least likely, before the padding."""
    with np.errstate(invalid="ignore"):
        unsorted = np.flatnonzero(~(top_NK[:, 1:] <= top_NK[:, :-1]).all(axis=1))
    if len(unsorted):
        rank = np.where(np.isnan(top_NK[unsorted]), -1e300, top_NK[unsorted])
        order = np.argsort(-rank, axis=1, kind="stable")
        tops_NK[unsorted] = np.take_along_axis(tops_NK[unsorted], order, axis=1)
        top_NK[unsorted] = np.take_along_axis(top_NK[unsorted], order, axis=1)
    return tops_NK, top_NK
