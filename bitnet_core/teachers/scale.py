"""Whether the logprobs of a teacher depend on how it samples: measured with requests that differ in it alone.

Temperature scales logprobs, and a nucleus renormalises them, if a server reports them after sampling. What can't be
varied can't be measured, and is never called "raw". An answer that shows nothing is asked for with another prompt.
"""

import math
import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.neutral import MESSAGES, OTHER_MESSAGES, neutral
from bitnet_core.teachers.refusals import PromptRefused, SettingsRefused, no_logprobs, unusable_logprobs
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.tokenizer.mass import SENTINEL, fault_words, step_fault
from bitnet_core.tokenizer.steps import TeacherStep

LEAST_COMPARED = 2
"""A single candidate does not show whether the temperature scales it."""
_COLD = 0.2
_TEMPERATURES = (_COLD, 0.9, 1.5)
"""Those that are compared with the one that was asked for; some models take none above 1."""
_COLDEST = 0.05
"""Taken in place of 0 when temperatures are compared."""
_SMALL_NUCLEUS = 0.05
"""Leaves one candidate of nearly every distribution."""
_NOISE = 0.05
"""Nats by which two computations of the same distribution may differ."""

_NO_ANSWER = ChatResult(text="", finish_reason="", prompt_tokens=0, completion_tokens=0, model="", body=b"")
"""Stands for an answer without text."""
UNUSABLE = frozenset(
    {"bytes_missing", "contradictory_bytes", "control_token", "contradictory_logprobs", "malformed_logprobs"}
)
"""Reasons of bad replies that have logprobs."""

Ask = Callable[[ChatRequest], Awaitable[ChatResult]]


@dataclass(frozen=True)
class Scale:
    """What was measured: the `Verdict.mode`, and the most candidates that a step came with."""

    mode: str
    candidates: int = 0


async def measure_scale(
    teacher: Teacher, request: ChatRequest, answer: ChatResult, ask: Ask, *, known_fixed: bool
) -> Scale:
    """Compare the answer to `request` with answers of one token at other temperatures and a small nucleus.

    `known_fixed`: an earlier run found that the server takes no temperature, not even 1.
    """
    if "temperature" in teacher.left_out:
        return Scale("unmeasured") if known_fixed else await _of_fixed_temperature(teacher, request, ask)
    first: TeacherStep | None = first_step(teacher, answer)
    temperature = request.temperature
    sent = teacher.requested_sampling(request).get("temperature") is not None
    candidates = 0
    try:
        if not sent:  # the server's own temperature is unknown, and may be any that it could be compared with
            temperature = _COLD
            first = _usable_first_step(await _answer(teacher, replace(neutral(request), temperature=_COLD), ask))
        for messages in (MESSAGES, *OTHER_MESSAGES):
            asked = replace(request, messages=messages, max_tokens=1)
            if first is None:
                first = _usable_first_step(await _answer(teacher, replace(asked, temperature=temperature), ask))
            other, at = await _other_answer(teacher, asked, temperature, ask)
            if "temperature" in teacher.left_out:
                return await _of_fixed_temperature(teacher, request, ask)
            second = _usable_first_step(other)
            candidates = max(candidates, other.candidates)
            if first is not None and second is not None:
                same = _same_distribution(first, second, math.sqrt(_ratio(temperature, at)))
                return Scale("raw" if same else "scaled", candidates)
            first = None  # llama.cpp gives no logprobs for a token that ends inside a character
    except (PromptRefused, SettingsRefused):
        return Scale("scaled" if sent else "unmeasured")
    return Scale("scaled", candidates)


async def _answer(teacher: Teacher, request: ChatRequest, ask: Ask) -> ChatResult:
    """The answer, which may have no text. BitnetError for one that can't be read."""
    try:
        return await ask(request)
    except BadReply as error:
        if error.reason == "no_text":
            return _NO_ANSWER
        raise _unusable(teacher, error) from error


def _unusable(teacher: Teacher, failure: BadReply) -> BitnetError:
    """What a bad reply to a request for a token means."""
    if failure.reason in UNUSABLE:
        return unusable_logprobs(teacher.name, teacher.model, str(failure), "choose another model")
    return BitnetError(f"{teacher.name} answers in a shape that can't be used ({failure}); use another one.")


async def _of_fixed_temperature(teacher: Teacher, request: ChatRequest, ask: Ask) -> Scale:
    """At temperature 1 logprobs are the same, scaled or not: does the server take that one, if no other?"""
    teacher.send_again("temperature")
    teacher.send_neutral_values()
    try:
        answer = await ask(replace(neutral(request), temperature=1.0, top_p=1.0))
    except (BadReply, PromptRefused, SettingsRefused):
        teacher.leave_out({"temperature"})
        return Scale("unmeasured")
    return Scale("unmeasured" if "temperature" in teacher.left_out else "scaled", answer.candidates)


async def _other_answer(
    teacher: Teacher, request: ChatRequest, temperature: float, ask: Ask
) -> tuple[ChatResult, float]:
    """The answer to the request with sampling as different as the server accepts, and its temperature."""
    nucleus = _SMALL_NUCLEUS if request.top_p < 1 else request.top_p
    far = sorted(_TEMPERATURES, key=lambda one: -_ratio(one, temperature))[:2]
    failure: BadReply | PromptRefused | SettingsRefused
    for other in far:
        try:
            return await ask(replace(request, temperature=other, top_p=nucleus)), other
        except (BadReply, PromptRefused, SettingsRefused) as error:
            failure = error
    if isinstance(failure, BadReply):
        if failure.reason == "no_text":
            return _NO_ANSWER, far[-1]
        raise _unusable(teacher, failure) from failure
    raise failure


def _ratio(one: float, other: float) -> float:
    low, high = sorted((max(one, _COLDEST), max(other, _COLDEST)))
    return high / low


def first_step(teacher: Teacher, result: ChatResult) -> TeacherStep:
    """The first step of the answer, with its usable candidates. NoLogprobs or UnusableLogprobs if there are none.

    The sampled token does not matter here; it may be missing from the candidates.
    """
    step = _candidates(result)
    if step is None:
        raise no_logprobs(teacher.name, teacher.model)
    reason = step_fault(step)
    if reason is not None:
        wrong = f"{fault_words(reason)} in its first token"
        raise unusable_logprobs(teacher.name, teacher.model, wrong, "choose another model")
    return step


def _usable_first_step(result: ChatResult) -> TeacherStep | None:
    step = _candidates(result)
    return None if step is None or step_fault(step) is not None else step


def _candidates(result: ChatResult) -> TeacherStep | None:
    step = result.steps.step(0) if result.steps is not None else None
    if step is None or not step.top_logprobs:
        return None
    listed = [
        place
        for place, logprob in enumerate(step.top_logprobs)
        if not (logprob <= SENTINEL and step.top_bytes[place] == step.data)
    ] or [0]
    return replace(
        step,
        logprob=step.top_logprobs[listed[0]],
        top_ids=tuple(step.top_ids[place] for place in listed),
        top_bytes=tuple(step.top_bytes[place] for place in listed),
        top_logprobs=tuple(step.top_logprobs[place] for place in listed),
    )


def _same_distribution(first: TeacherStep, second: TeacherStep, apart: float) -> bool:
    """Whether both gave the same distribution, judged by the spread of their common candidates.

    Scaled logprobs would be spread `apart`² times as far in one of them. The logprobs themselves can't be
    compared: a quantised model that takes the prompt from its cache differs by tenths of a nat.
    """
    other = dict(zip(second.top_bytes, second.top_logprobs, strict=True))
    pairs = [
        (logprob, other[data])
        for data, logprob in zip(first.top_bytes, first.top_logprobs, strict=True)
        if data in other
    ]
    if len(pairs) < LEAST_COMPARED:
        return False
    one, two = (statistics.pstdev(side) for side in zip(*pairs, strict=True))
    return bool(1 / apart < (one + _NOISE) / (two + _NOISE) < apart)
