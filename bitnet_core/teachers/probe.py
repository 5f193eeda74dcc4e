"""Ask a teacher for two tokens before anything is spent: can its logprobs be used, and how are they scaled?

Every error is one sentence that names what to do instead. It must not know stages.
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
from bitnet_core.teachers.refusals import PromptRefused, TooManyCandidates, no_logprobs, too_many_candidates
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.tokenizer.mass import SENTINEL, step_fault
from bitnet_core.tokenizer.steps import TeacherStep

# Tokenizers differ most in digits, accents, scripts and code. The answer is plain ASCII, because llama.cpp reports
# only the last token of a character that takes several.
MESSAGES = (
    {
        "role": "user",
        "content": 'naïve café, 東京, Привет, 1995 + 2024 = 4019, {"a": [1, 2]}, f(x): x**2. English? Say yes or no.',
    },
)
_NUCLEUS = 1.0
"""With a smaller one, servers that report logprobs after sampling would cut the list of candidates."""
_TRIES = 3
"""At a high temperature half a character may be sampled, whose bytes some servers don't report."""
_SAMPLES = 3
_LOADING_SECONDS = 600.0
_COLD, _WARM = 0.2, 1.5
_LEAST_COMPARED = 2
"""A single candidate does not show whether the temperature scales it."""
_APART = math.sqrt(_WARM / _COLD)
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

    def temperature(self, sampled_at: float) -> float:
        """The temperature of the logprobs in an answer that was sampled at `sampled_at`."""
        return 1.0 if self.mode == "raw" else sampled_at

    def record(self) -> dict[str, Any]:
        """The verdict as it is stored. An empty `upstream` is left out, as in shards from before there was one."""
        return {name: value for name, value in asdict(self).items() if name != "upstream" or value}


def one_token(top_logprobs: int, temperature: float = _COLD) -> ChatRequest:
    """The request of a probe: one token with its logprobs."""
    return ChatRequest(MESSAGES, 1, temperature, _NUCLEUS, top_logprobs)


def token_timeout(teacher: Teacher) -> float:
    """How many seconds to wait for one token; a local server may have to load its model first."""
    return _LOADING_SECONDS if teacher.provider.loads_first else QUICK_SECONDS


async def probe_token(teacher: Teacher, top_logprobs: int, temperature: float = _COLD) -> ChatResult:
    """One token with its logprobs.

    Repeated if there are none: the token may have been half a character, for which llama.cpp reports nothing.
    """
    for _ in range(_SAMPLES):
        result = await teacher.chat(one_token(top_logprobs, temperature), attempts=2, seconds=token_timeout(teacher))
        if result.steps is not None:
            break
    return result


async def plain_token(teacher: Teacher) -> float:
    """Ask for one token without logprobs; the seconds that it took.

    No text counts as an answer: a reasoning model has none after one token.
    """
    began = time.monotonic()
    try:
        await teacher.chat(ChatRequest(MESSAGES, 1, 0.0, 1.0), attempts=2, seconds=token_timeout(teacher))
    except BadReply as error:
        if error.reason != "no_text":
            raise
    return time.monotonic() - began


async def probe(teacher: Teacher, top_logprobs: int, upstream: str = "") -> Verdict:
    """Judge a teacher by two requests of one token each. BitnetError if traces can't be made from it.

    Behind a router, only the provider that answers first is asked from then on; `upstream` is that provider, if it is
    known from an earlier run.
    """
    most = teacher.provider.max_top_logprobs
    if teacher.provider.logprobs == "no":
        raise no_logprobs(teacher.name, teacher.model)
    if most is not None and top_logprobs > most:
        raise too_many_candidates(teacher.name, teacher.model, top_logprobs, most)
    teacher.pin(upstream)
    asked = max(top_logprobs, _LEAST_COMPARED)
    try:
        cold, cold_seconds = await _timed_token(teacher, asked, _COLD)
    except TooManyCandidates as error:
        if error.most >= top_logprobs:
            alone = "it gives one candidate a token, which does not show whether the temperature scales it"
            raise no_logprobs(teacher.name, teacher.model, alone) from error
        raise
    first = _first_step(teacher, cold)
    teacher.pin(cold.upstream)
    warm, warm_seconds = await _timed_token(teacher, asked, _WARM)
    second = _first_step(teacher, warm)
    return Verdict(
        mode="raw" if _same_distribution(first, second) else "scaled",
        candidates=min(top_logprobs, max(candidate_count(cold), candidate_count(warm))),
        token_ids=all(index >= 0 for index in first.top_ids),
        exact_bytes=_BYTES.search(cold.body) is not None,
        latency_s=min(cold_seconds, warm_seconds),
        served_model=cold.model,
        upstream=cold.upstream,
    )


async def _timed_token(teacher: Teacher, top_logprobs: int, temperature: float) -> tuple[ChatResult, float]:
    """The answer and its duration in seconds. NoLogprobs if the teacher answers only without logprobs."""
    failure: BadReply | PromptRefused | None = None
    for _ in range(_TRIES):
        began = time.monotonic()
        try:
            return await probe_token(teacher, top_logprobs, temperature), time.monotonic() - began
        except (BadReply, PromptRefused) as error:
            failure = error
            if isinstance(error, PromptRefused):
                break
    if await _answers_without_logprobs(teacher):
        raise no_logprobs(
            teacher.name, teacher.model, f"it answers without them, and with them: {failure}"
        ) from failure
    if isinstance(failure, PromptRefused):
        raise failure
    raise BitnetError(
        f"{teacher.name} answers in a shape that can't be used ({failure}); use another one."
    ) from failure


async def _answers_without_logprobs(teacher: Teacher) -> bool:
    try:
        await plain_token(teacher)
    except (BadReply, BitnetError):
        return False
    return True


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


def candidate_count(result: ChatResult) -> int:
    """How many candidates the first step had, including those that were left out because they are not text."""
    if result.steps is None:
        return 0
    left_out = sum(result.repairs.get(name, 0) for name in ("special_candidates", "unknown_candidates"))
    return len(result.steps.step(0).top_logprobs) + left_out


def _same_distribution(first: TeacherStep, second: TeacherStep) -> bool:
    """Whether both temperatures gave the same distribution, judged by the spread of their common candidates.

    Scaled logprobs would be spread _WARM / _COLD = 7.5 times as far in the first. The logprobs themselves can't be
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
    return bool(1 / _APART < (cold + _NOISE) / (warm + _NOISE) < _APART)
