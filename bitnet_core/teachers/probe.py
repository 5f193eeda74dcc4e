"""Ask a teacher for a few tokens before anything is spent: can its logprobs be used, and how are they scaled?

The first answer has several tokens and is judged as every answer is, because some faults show only in the second
token. Every error is one sentence that names what to do instead. It must not know stages.
"""

import math
import re
import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.http.client import QUICK_SECONDS
from bitnet_core.teachers.judge import ONLY_THINKING, probe_fault
from bitnet_core.teachers.refusals import (
    PromptRefused,
    TooManyCandidates,
    no_logprobs,
    too_many_candidates,
    unusable_logprobs,
)
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.tokenizer.mass import SENTINEL, step_fault
from bitnet_core.tokenizer.steps import TeacherStep

# Tokenizers differ most in digits, accents, scripts and code. The answer is plain ASCII, because llama.cpp reports
# only the last token of a character that takes several.
MESSAGES = (
    {
        "role": "user",
        "content": 'naïve café, 東京, Привет, 1995 + 2024 = 4019, {"a": [1, 2]}, f(x): x**2. '
        "Describe this line in one short sentence of plain English.",
    },
)
TOKENS = 8
"""Of the answer that is judged: enough for blanks between words, and for thinking that should not be there."""
_SEED = 1
_NUCLEUS = 1.0
"""With a smaller one, servers that report logprobs after sampling would cut the list of candidates."""
_TRIES = 3
"""Half a character may be sampled: some servers don't report its bytes, and llama.cpp reports nothing at all."""
_UNUSABLE = frozenset({"bytes_missing", "control_token", "contradictory_logprobs", "malformed_logprobs"})
"""Reasons of bad replies that have logprobs."""
_LOADING_SECONDS = 600.0
_COLD, _WARM, _LUKEWARM = 0.2, 1.5, 0.9
"""The temperatures that are compared; the last for a model that takes none above 1."""
_LEAST_COMPARED = 2
"""A single candidate does not show whether the temperature scales it."""
_NOISE = 0.05
"""Nats by which two computations of the same distribution may differ."""
_BYTES = re.compile(rb'"bytes"\s*:\s*\[')


@dataclass(frozen=True)
class Verdict:
    """What the probe found. `mode` is "raw" if logprobs don't depend on the temperature, "scaled" if they do."""

    mode: str
    candidates: int
    """Candidates a step, at most as many as were asked for."""
    token_ids: bool = False
    exact_bytes: bool = False
    """Whether tokens come with their bytes; otherwise their text is used."""
    latency_s: float | None = None
    """Of the faster of the two requests."""
    served_model: str = ""
    """The name of the model as the server gives it."""
    upstream: str = ""
    """The provider behind a router that answered; only it is asked from then on."""
    refused: tuple[str, ...] = ()
    """The sampling fields that the model refuses; they are left out of every request."""

    def temperature(self, sampled_at: float) -> float:
        """The temperature of the logprobs in an answer that was sampled at `sampled_at`."""
        return 1.0 if self.mode == "raw" else sampled_at

    def record(self) -> dict[str, Any]:
        """The verdict as it is stored. What is empty is left out, as in shards from before there was such a field."""
        stored = asdict(self) | {"refused": list(self.refused)}
        return {name: value for name, value in stored.items() if name not in ("upstream", "refused") or value}


def one_token(top_logprobs: int, temperature: float = _COLD) -> ChatRequest:
    """A request of one token with its logprobs."""
    return ChatRequest(MESSAGES, 1, temperature, _NUCLEUS, top_logprobs, _SEED)


def probe_timeout(teacher: Teacher) -> float:
    """How many seconds to wait for a few tokens; a local server may have to load its model first."""
    return _LOADING_SECONDS if teacher.provider.loads_first else QUICK_SECONDS


async def ask_probe(teacher: Teacher, request: ChatRequest) -> ChatResult:
    """The answer to a probe, asked for again after a bad reply. Raises the last BadReply."""
    for tries_left in reversed(range(_TRIES)):
        try:
            return await teacher.chat(request, attempts=2, seconds=probe_timeout(teacher))
        except BadReply:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


async def plain_answer(teacher: Teacher) -> tuple[float, bool]:
    """Ask for a few tokens without logprobs, streamed as chats are; its seconds, and whether there was text.

    No text is an answer, too: a reasoning model has none after a few tokens.
    """
    began = time.monotonic()
    request = ChatRequest(MESSAGES, TOKENS, 0.0, 1.0)
    try:
        result = await teacher.chat(request, attempts=2, seconds=probe_timeout(teacher), on_text=lambda _: None)
    except BadReply as error:
        if error.reason != "no_text":
            raise
        return time.monotonic() - began, False
    return time.monotonic() - began, bool(result.text)


async def probe(teacher: Teacher, top_logprobs: int, known: Verdict | None = None) -> Verdict:
    """Judge a teacher by two answers. BitnetError if traces can't be made from it.

    Behind a router, only the provider that answers first is asked from then on. `known` is the verdict of an earlier
    run: the provider and the refused fields that it names are kept.
    """
    most = teacher.provider.max_top_logprobs
    if teacher.provider.logprobs == "no":
        raise no_logprobs(teacher.name, teacher.model)
    if most is not None and top_logprobs > most:
        raise too_many_candidates(teacher.name, teacher.model, top_logprobs, most)
    teacher.pin(known.upstream if known else "")
    teacher.leave_out(known.refused if known else ())
    asked = max(top_logprobs, _LEAST_COMPARED)
    try:
        request = ChatRequest(MESSAGES, TOKENS, _COLD, _NUCLEUS, asked, _SEED)
        cold, cold_seconds = await _timed_answer(teacher, request)
    except TooManyCandidates as error:
        if error.most >= top_logprobs:
            alone = "it gives one candidate a token, which does not show whether the temperature scales it"
            raise no_logprobs(teacher.name, teacher.model, alone) from error
        raise
    first = _first_step(teacher, cold)
    if fault := probe_fault(cold, TOKENS):
        raise unusable_logprobs(teacher.name, teacher.model, *fault)
    teacher.pin(cold.upstream)
    warm, warm_seconds, temperature = await _warm_answer(teacher, asked)
    second = _first_step(teacher, warm)
    scaled = not _same_distribution(first, second, math.sqrt(temperature / _COLD))
    if scaled:
        teacher.send_neutral_values()
    return Verdict(
        mode="scaled" if scaled else "raw",
        candidates=min(top_logprobs, max(cold.candidates, warm.candidates)),
        token_ids=all(index >= 0 for index in first.top_ids),
        exact_bytes=_BYTES.search(cold.body) is not None,
        latency_s=min(cold_seconds, warm_seconds),
        served_model=cold.model,
        upstream=cold.upstream,
        refused=tuple(sorted(teacher.left_out)),
    )


async def _timed_answer(teacher: Teacher, request: ChatRequest) -> tuple[ChatResult, float]:
    """The answer and its duration in seconds. BitnetError for a teacher that sends only bad replies."""
    failure: BadReply | PromptRefused
    try:
        return await _timed(teacher, request)
    except (BadReply, PromptRefused) as error:
        failure = error
    if isinstance(failure, BadReply) and failure.reason in _UNUSABLE:
        raise unusable_logprobs(teacher.name, teacher.model, str(failure), "choose another model") from failure
    has_text = await _answers_without_logprobs(teacher)
    if has_text is False and isinstance(failure, BadReply) and failure.reason == "no_text":
        raise unusable_logprobs(teacher.name, teacher.model, *ONLY_THINKING) from failure
    if has_text is not None:
        raise no_logprobs(
            teacher.name, teacher.model, f"it answers without them, and with them: {failure}"
        ) from failure
    if isinstance(failure, PromptRefused):
        raise failure
    raise BitnetError(
        f"{teacher.name} answers in a shape that can't be used ({failure}); use another one."
    ) from failure


async def _warm_answer(teacher: Teacher, top_logprobs: int) -> tuple[ChatResult, float, float]:
    """The answer of one token at a high temperature, its seconds, and that temperature."""
    try:
        return *await _timed(teacher, one_token(top_logprobs, _WARM)), _WARM
    except (BadReply, PromptRefused):
        return *await _timed_answer(teacher, one_token(top_logprobs, _LUKEWARM)), _LUKEWARM


async def _timed(teacher: Teacher, request: ChatRequest) -> tuple[ChatResult, float]:
    began = time.monotonic()
    return await ask_probe(teacher, request), time.monotonic() - began


async def _answers_without_logprobs(teacher: Teacher) -> bool | None:
    """Whether there is text in its answer without logprobs; None if there is no answer."""
    try:
        _, has_text = await plain_answer(teacher)
    except (BadReply, BitnetError):
        return None
    return has_text


def _first_step(teacher: Teacher, result: ChatResult) -> TeacherStep:
    """The first step of the answer, with its usable candidates. NoLogprobs if there are none.

    The sampled token does not matter here; it may be missing from the candidates.
    """
    step = result.steps.step(0) if result.steps is not None else None
    if step is None or not step.top_logprobs:
        raise no_logprobs(teacher.name, teacher.model)
    listed = [
        place
        for place, logprob in enumerate(step.top_logprobs)
        if not (logprob <= SENTINEL and step.top_bytes[place] == step.data)
    ] or [0]
    step = replace(
        step,
        logprob=step.top_logprobs[listed[0]],
        top_ids=tuple(step.top_ids[place] for place in listed),
        top_bytes=tuple(step.top_bytes[place] for place in listed),
        top_logprobs=tuple(step.top_logprobs[place] for place in listed),
    )
    reason = step_fault(step)
    if reason is not None:
        raise no_logprobs(teacher.name, teacher.model, f"its logprobs are unusable: {reason.replace('_', ' ')}")
    return step


def _same_distribution(first: TeacherStep, second: TeacherStep, apart: float) -> bool:
    """Whether both temperatures gave the same distribution, judged by the spread of their common candidates.

    Scaled logprobs would be spread `apart`² times as far in the first. The logprobs themselves can't be
    compared: a quantised model that takes the prompt from its cache differs by tenths of a nat.
    """
    other = dict(zip(second.top_bytes, second.top_logprobs, strict=True))
    pairs = [
        (logprob, other[data])
        for data, logprob in zip(first.top_bytes, first.top_logprobs, strict=True)
        if data in other
    ]
    if len(pairs) < _LEAST_COMPARED:
        return False
    cold, warm = (statistics.pstdev(side) for side in zip(*pairs, strict=True))
    return bool(1 / apart < (cold + _NOISE) / (warm + _NOISE) < apart)
