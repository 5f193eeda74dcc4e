"""Read what OpenAI-compatible servers answer to /chat/completions. Pure: bodies in, results or faults out.

Every shape met in the wild is handled here: an end-of-text entry without bytes or with its spelling, no `bytes` at
all or those of another spelling of the token, -9999.0, null logprobs, fewer or one more candidate than asked for,
text that is trimmed or cut inside a character, the older list of lists, HTML, an error sent with status 200. What
is mended is counted; what can't be is a BadReply, or `text_matches_bytes` says so.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from bitnet_core.traces.byte_alphabet import BYTE_OF_CHARACTER
from bitnet_core.traces.steps import Completion, TokenTable

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")


class BadReply(Exception):
    """The answer is not what was asked for; `reason` is a short code that is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class ChatResult:
    """One answer. `steps` is None when the server sent no logprobs."""

    text: str
    steps: Completion | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    text_matches_bytes: bool
    """Whether the tokens' bytes are the text's: else the one or the other is wrong."""
    timings: Mapping[str, float]
    """llama.cpp's own clock (predicted_per_second, …); empty elsewhere."""
    model: str
    body: bytes = field(repr=False)
    """What it was read from, as it came."""
    repairs: Mapping[str, int] = field(default_factory=dict)
    """What was mended in the tokens, by kind."""


@dataclass(frozen=True)
class Told:
    """The tokens of an answer, held against its text."""

    steps: Completion | None
    matches: bool
    repairs: Mapping[str, int]


def parse_chat(payload: Any, body: bytes, table: TokenTable) -> ChatResult:
    """The result in a decoded body. Raises BadReply."""
    choice = _first_choice(payload)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        if isinstance(message, dict) and message.get("refusal"):
            raise BadReply("refused", "the teacher refused to answer")
        raise BadReply("no_text", "the answer holds no text")
    finish_reason = str(choice.get("finish_reason") or "")
    told = completion_of(_content(choice.get("logprobs")), text, table)
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return ChatResult(
        text=text,
        steps=told.steps,
        finish_reason=finish_reason,
        prompt_tokens=count(usage.get("prompt_tokens"), 0),
        completion_tokens=count(usage.get("completion_tokens"), len(told.steps or ())),
        text_matches_bytes=told.matches,
        timings=timings(payload.get("timings")),
        model=str(payload.get("model") or ""),
        body=body,
        repairs=told.repairs,
    )


def completion_of(content: Sequence[Any] | None, text: str, table: TokenTable) -> Told:
    """The tokens of a list of entries as OpenAI writes them, held against the text, and mended where that is sure.

    Raises BadReply for entries that can't be read at all.
    """
    if not content:
        return Told(None, matches=True, repairs={})
    repairs: dict[str, int] = {}
    steps = columns(content, table)
    sent = sum(len(entry.get("top_logprobs") or ()) for entry in content)
    repeated = sent - int((steps.tops_NK >= 0).sum())
    if repeated:
        repairs["repeated_candidates"] = repeated
    matched = _matched(steps.text(), text)
    if matched is None:
        for name, mend in (("raw_tokens", _raw_spelling), ("pieces", _piece_spelling)):
            respelled = _respelled(content, mend)
            if respelled is None:
                continue
            other = columns(respelled, table)
            matched = _matched(other.text(), text)
            if matched is not None:
                steps = other
                repairs[name] = len(content)
                break
    if matched is None:
        without_end = columns([*content[:-1], {**content[-1], "token": "", "bytes": []}], table)
        if len(content) > 1 and _looks_special(content[-1]) and _matched(without_end.text(), text) is not None:
            steps, matched = without_end, "exact"
            repairs["spelled_end"] = 1
    if matched == "trimmed":
        repairs["trimmed_text"] = 1
    return Told(steps, matched is not None, repairs)


def _matched(joined: bytes, text: str) -> str | None:
    """How the tokens' bytes are the text: exactly (or cut inside the last character), trimmed, or not at all."""
    said = joined.decode("utf-8", errors="replace")
    if said == text or joined.decode("utf-8", errors="ignore") == text or said.rstrip("\ufffd") == text:
        return "exact"
    return "trimmed" if said.strip() == text.strip() and text.strip() else None


def _respelled(content: Sequence[Any], mend: Any) -> list[dict[str, Any]] | None:
    """The entries with bytes made from their tokens' own spelling; None where that can't be."""

    def one(entry: Mapping[str, Any]) -> dict[str, Any]:
        token = entry.get("token")
        data = mend(token) if isinstance(token, str) else None
        if data is None:
            raise ValueError
        return {**entry, "bytes": list(data)}

    try:
        return [
            {**one(entry), "top_logprobs": [one(top) for top in entry.get("top_logprobs") or ()]} for entry in content
        ]
    except ValueError:
        return None


def _raw_spelling(token: str) -> bytes | None:
    """Bytes of a byte-level BPE token in its own alphabet (`Ġthe`)."""
    try:
        return bytes(BYTE_OF_CHARACTER[character] for character in token)
    except KeyError:
        return None


def _piece_spelling(token: str) -> bytes | None:
    """Bytes of a SentencePiece piece (`▁the`, `<0xE2>`)."""
    byte = _BYTE_TOKEN.fullmatch(token)
    return bytes([int(byte[1], 16)]) if byte else token.replace("▁", " ").encode()


def _looks_special(entry: Mapping[str, Any]) -> bool:
    """`<|im_end|>`, `</s>`, `<end_of_turn>`: how end tokens are spelled."""
    token = entry.get("token")
    return isinstance(token, str) and token.startswith("<") and token.endswith(">")


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
    known = ids if isinstance(ids, list) and len(ids) == len(tokens) else [-1] * len(tokens)
    return [
        {
            "token": token,
            "logprob": value,
            "id": index,
            "top_logprobs": [{"token": other, "logprob": logprob} for other, logprob in (top or {}).items()],
        }
        for token, value, top, index in zip(tokens, values, tops, known, strict=True)
    ]


def columns(content: Sequence[Any], table: TokenTable) -> Completion:
    """The entries as columns; each candidate once, most likely first. Raises BadReply.

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
        candidates = entry.get("top_logprobs")
        candidates = candidates if isinstance(candidates, list) else []
        sampled.append(number_of(entry, table))
        own.append(entry.get("logprob"))
        for one in candidates:
            try:
                known, number = met[one["id"]]
                if known != one["bytes"]:
                    number = number_of(one, table)
            except (KeyError, TypeError):
                number = number_of(one, table)
            tops.append(number)
            logprobs.append(one.get("logprob"))
        counts.append(len(candidates))
    return arranged(table, sampled, _floats(own), tops, _floats(logprobs), np.array(counts, np.int64))


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


def arranged(
    table: TokenTable,
    sampled: list[int],
    own_N: npt.NDArray[np.float64],
    tops: list[int],
    logprobs: npt.NDArray[np.float64],
    counts_N: npt.NDArray[np.int64],
) -> Completion:
    """Rows of equal length, in order, without candidates that are said twice."""
    width = int(counts_N.max(initial=0))
    place_NK = np.arange(width)[None, :] < counts_N[:, None]
    tops_NK = np.full((len(sampled), width), -1, np.int32)
    top_NK = np.full((len(sampled), width), -np.inf)
    tops_NK[place_NK], top_NK[place_NK] = tops, logprobs
    # Some servers repeat the sampled token at the end: counted twice it would gain mass.
    twice = np.flatnonzero(
        (np.diff(np.sort(np.where(place_NK, tops_NK, -1 - np.arange(width)), axis=1)) == 0).any(axis=1)
    )
    for row in twice.tolist():
        pairs = list(dict.fromkeys(zip(tops_NK[row].tolist(), top_NK[row].tolist(), strict=True)))
        pairs = [pair for pair in pairs if pair[0] >= 0]
        tops_NK[row], top_NK[row] = -1, -np.inf
        tops_NK[row, : len(pairs)] = [number for number, _ in pairs]
        top_NK[row, : len(pairs)] = [logprob for _, logprob in pairs]
    with np.errstate(invalid="ignore"):
        unordered = np.flatnonzero(~(top_NK[:, 1:] <= top_NK[:, :-1]).all(axis=1))
    if len(unordered):
        # NaN counts as the least likely, before the padding.
        rank = np.where(np.isnan(top_NK[unordered]), -1e300, top_NK[unordered])
        order = np.argsort(-rank, axis=1, kind="stable")
        tops_NK[unordered] = np.take_along_axis(tops_NK[unordered], order, axis=1)
        top_NK[unordered] = np.take_along_axis(top_NK[unordered], order, axis=1)
    return Completion(table, np.array(sampled, np.int32), own_N, tops_NK, top_NK)


def _id(entry: Mapping[str, Any]) -> int:
    index = entry.get("id")
    return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else -1


def _bytes(entry: Mapping[str, Any]) -> bytes:
    """The exact bytes, or the text's when the server sends none. U+FFFD in a text hides bytes: refused."""
    data = entry.get("bytes")
    if isinstance(data, list):
        try:
            return bytes(data)
        except (ValueError, TypeError) as error:
            raise BadReply("malformed_logprobs", "the bytes of a token are no bytes") from error
    token = entry.get("token")
    if not isinstance(token, str):
        raise BadReply("malformed_logprobs", "a logprobs entry has neither bytes nor text")
    if "\ufffd" in token:
        raise BadReply("bytes_missing", "a token is half a character and comes without its bytes")
    return token.encode()


def count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def timings(value: Any) -> Mapping[str, float]:
    if not isinstance(value, dict):
        return {}
    return {
        str(name): float(number)
        for name, number in value.items()
        if isinstance(number, int | float) and math.isfinite(number)
    }
