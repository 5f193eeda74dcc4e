"""Ask a teacher for two tokens before anything is spent: can its logprobs be used, and what are they?

Every refusal is one sentence that names what would do instead.
"""

import math
import re
import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.read import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest, PromptRefused
from bitnet_core.teachers.http.client import QUICK_SECONDS
from bitnet_core.teachers.refusals import TooManyCandidates, no_logprobs, too_many_candidates
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.tokenizer.mass import SENTINEL, step_fault
from bitnet_core.tokenizer.steps import TeacherStep

# Digits, accents, two scripts and code: what tokenizers cut most differently. The answer is plain ASCII: of a
# character made of several tokens, llama.cpp reports none but the last.
MESSAGES = (
    {
        "role": "user",
        "content": 'naïve café, 東京, Привет, 1995 + 2024 = 4019, {"a": [1, 2]}, f(x): x**2. English? Say yes or no.',
    },
)
_NUCLEUS = 1.0
"""A smaller one would cut the list itself, where the server tells what is left after sampling."""
_TRIES = 3
"""At a high temperature anything may be sampled, half a character too: of which some servers tell no bytes."""
_SAMPLES = 3
_LOADING_SECONDS = 600.0
_COLD, _WARM = 0.2, 1.5
_LEAST_COMPARED = 2
"""Of a single candidate nobody can tell whether the temperature bends it."""
_APART = math.sqrt(_WARM / _COLD)
_NOISE = 0.05
"""Nats that computing the same thing twice may make of difference."""
_BYTES = re.compile(rb'"bytes"\s*:\s*\[')


@dataclass(frozen=True)
class Verdict:
    """What the probe found. `mode` "raw": logprobs don't depend on the temperature; "scaled": they do."""

    mode: str
    candidates: int
    """Candidates of a step, of as many as were asked for."""
    token_ids: bool = False
    exact_bytes: bool = False
    """Whether tokens come with their bytes; else their text has to do."""
    latency_s: float | None = None
    """Of the quicker of both requests."""
    served_model: str = ""
    """The model's name as the server gives it."""
    upstream: str = ""
    """Who answered behind a router; it alone is asked then."""

    def temperature(self, sampled_at: float) -> float:
        """The temperature that the logprobs of an answer sampled at `sampled_at` are at."""
        return 1.0 if self.mode == "raw" else sampled_at

    def record(self) -> dict[str, Any]:
        """As it is kept; without a router there is no word of one, so that shards written before stay current."""
        return {name: value for name, value in asdict(self).items() if name != "upstream" or value}


def one_token(top_logprobs: int, temperature: float = _COLD) -> ChatRequest:
    """The request that probes are made of."""
    return ChatRequest(MESSAGES, 1, temperature, _NUCLEUS, top_logprobs)


def plain_token() -> ChatRequest:
    """The same without logprobs."""
    return ChatRequest(MESSAGES, 1, 0.0, 1.0)


def patience(teacher: Teacher) -> float:
    """Seconds for one token: one's own server may have to load its model first."""
    return _LOADING_SECONDS if teacher.provider.loads_first else QUICK_SECONDS


async def token(teacher: Teacher, top_logprobs: int, temperature: float = _COLD) -> ChatResult:
    """One token with its logprobs. Asked for again when none come: it may have been half a character, by chance, of
    which llama.cpp tells nothing."""
    for _ in range(_SAMPLES):
        result = await teacher.chat(one_token(top_logprobs, temperature), attempts=2, seconds=patience(teacher))
        if result.steps is not None:
            break
    return result


async def probe(teacher: Teacher, top_logprobs: int, upstream: str = "") -> Verdict:
    """Two requests of one token each. BitnetError when traces can't be made from this teacher.

    Behind a router, the one who answered first is the only one to answer from then on: `upstream`, where that is
    known from before.
    """
    most = teacher.provider.max_top_logprobs
    if teacher.provider.logprobs == "no":
        raise no_logprobs(teacher.name, teacher.model)
    if most is not None and top_logprobs > most:
        raise too_many_candidates(teacher.name, teacher.model, top_logprobs, most)
    teacher.pin(upstream)
    asked = max(top_logprobs, _LEAST_COMPARED)
    try:
        cold, cold_seconds = await _asked(teacher, asked, _COLD)
    except TooManyCandidates as error:
        if error.most >= top_logprobs:
            alone = "it gives one candidate a token, of which nobody can tell whether the temperature bends it"
            raise no_logprobs(teacher.name, teacher.model, alone) from error
        raise
    first = first_step(teacher, cold)
    teacher.pin(cold.upstream)
    warm, warm_seconds = await _asked(teacher, asked, _WARM)
    second = first_step(teacher, warm)
    return Verdict(
        mode="raw" if _same(first, second) else "scaled",
        candidates=min(top_logprobs, max(candidates(cold), candidates(warm))),
        token_ids=all(index >= 0 for index in first.top_ids),
        exact_bytes=_BYTES.search(cold.body) is not None,
        latency_s=min(cold_seconds, warm_seconds),
        served_model=cold.model,
        upstream=cold.upstream,
    )


async def _asked(teacher: Teacher, top_logprobs: int, temperature: float) -> tuple[ChatResult, float]:
    """The answer and its seconds. NoLogprobs where it would answer if it were not for the logprobs."""
    failure: BadReply | PromptRefused | None = None
    for _ in range(_TRIES):
        began = time.monotonic()
        try:
            return await token(teacher, top_logprobs, temperature), time.monotonic() - began
        except BadReply as error:
            failure = error
        except PromptRefused as error:
            failure = error
            break
    if await _chats(teacher):
        raise no_logprobs(teacher.name, teacher.model, f"it answers without, and with them: {failure}") from failure
    if isinstance(failure, PromptRefused):
        raise failure
    raise BitnetError(
        f"{teacher.name} answers in a shape that can't be used ({failure}); use another one."
    ) from failure


async def _chats(teacher: Teacher) -> bool:
    try:
        await teacher.chat(plain_token(), attempts=2, seconds=patience(teacher))
    except BadReply as error:
        return error.reason == "no_text"
    except BitnetError:
        return False
    return True


def first_step(teacher: Teacher, result: ChatResult) -> TeacherStep:
    """The answer's first step, with candidates that can be used; else NoLogprobs, naming who has them.

    Which token was sampled does not matter here, nor does that it may be outside of the list.
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
        raise no_logprobs(teacher.name, teacher.model, f"what it sends is unusable: {reason.replace('_', ' ')}")
    return step


def candidates(result: ChatResult) -> int:
    """How many candidates of its first step were sent, those included that are no text and were left out."""
    if result.steps is None:
        return 0
    left_out = sum(result.repairs.get(name, 0) for name in ("special_candidates", "unknown_candidates"))
    return len(result.steps.step(0).top_logprobs) + left_out


def _same(first: TeacherStep, second: TeacherStep) -> bool:
    """Whether both temperatures gave one distribution, judged by how far its shared candidates lie apart.

    Scaled logprobs would lie _WARM / _COLD = 7.5 times as far apart in the first. The numbers themselves
    can't be compared: a quantised model that reads a prompt from its cache differs by tenths of a nat.
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
