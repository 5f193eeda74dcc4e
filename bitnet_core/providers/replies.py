"""Read what OpenAI-compatible servers answer to /chat/completions. Pure: bodies in, results or faults out.

Every shape met in the wild is handled here: an end-of-text entry without bytes, no `bytes` at all, -9999.0,
null logprobs, fewer or one more candidate than asked for, HTML, an error sent with status 200.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bitnet_core.traces.steps import TeacherStep


class BadReply(Exception):
    """The answer is not what was asked for; `reason` is a short code that is counted."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class ChatResult:
    """One answer. `steps` is None when the server sent no logprobs."""

    text: str
    steps: tuple[TeacherStep, ...] | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    text_matches_bytes: bool
    timings: Mapping[str, float]
    """llama.cpp's own clock (predicted_per_second, …); empty elsewhere."""
    model: str
    body: bytes = field(repr=False)
    """What it was read from, as it came."""


def parse_chat(payload: Any, body: bytes) -> ChatResult:
    """The result in a decoded body. Raises BadReply."""
    choice = _first_choice(payload)
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        if isinstance(message, dict) and message.get("refusal"):
            raise BadReply("refused", "the teacher refused to answer")
        raise BadReply("no_text", "the answer holds no text")
    steps = _steps(choice.get("logprobs"))
    exact = True
    if steps is not None:
        joined = b"".join(step.data for step in steps)
        exact = joined.decode("utf-8", errors="replace") == text
    usage = payload.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    completion_tokens = _count(usage.get("completion_tokens"), len(steps or ()))
    return ChatResult(
        text=text,
        steps=steps,
        finish_reason=str(choice.get("finish_reason") or ""),
        prompt_tokens=_count(usage.get("prompt_tokens"), 0),
        completion_tokens=completion_tokens,
        text_matches_bytes=exact,
        timings=_timings(payload.get("timings")),
        model=str(payload.get("model") or ""),
        body=body,
    )


def _first_choice(payload: Any) -> Mapping[str, Any]:
    choices = payload.get("choices") if isinstance(payload, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply("no_choice", "the answer holds no choice")
    return choices[0]


def _steps(logprobs: Any) -> tuple[TeacherStep, ...] | None:
    """None for `logprobs: null`, an empty object or a list of nothing: the server does not do logprobs."""
    content = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(content, list) or not content:
        return None
    return tuple(_step(entry) for entry in content)


def _step(entry: Any) -> TeacherStep:
    if not isinstance(entry, dict):
        raise BadReply("malformed_logprobs", "a logprobs entry is no object")
    found: dict[tuple[int, bytes, float], None] = {}
    tops = entry.get("top_logprobs")
    for top in tops if isinstance(tops, list) else []:
        if not isinstance(top, dict):
            raise BadReply("malformed_logprobs", "a candidate is no object")
        # Some servers repeat the sampled token at the end: counted twice it would gain mass.
        found[(_id(top), _bytes(top), _logprob(top))] = None
    return TeacherStep(
        token_id=_id(entry),
        data=_bytes(entry),
        logprob=_logprob(entry),
        top_ids=tuple(index for index, _, _ in found),
        top_bytes=tuple(data for _, data, _ in found),
        top_logprobs=tuple(logprob for _, _, logprob in found),
    )


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


def _logprob(entry: Mapping[str, Any]) -> float:
    """A missing or null number becomes NaN, which rejects the sequence later, with its reason."""
    value = entry.get("logprob")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def _count(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else otherwise


def _timings(value: Any) -> Mapping[str, float]:
    if not isinstance(value, dict):
        return {}
    return {
        str(name): float(number)
        for name, number in value.items()
        if isinstance(number, int | float) and math.isfinite(number)
    }
