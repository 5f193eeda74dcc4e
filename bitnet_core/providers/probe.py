"""Ask a teacher for two tokens before anything is spent: can its logprobs be used, and what are they?

Every refusal is one sentence that names what would do instead.
"""

import math
import re
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.providers.chat import ChatRequest, no_logprobs
from bitnet_core.providers.replies import BadReply, ChatResult
from bitnet_core.providers.teacher import Teacher
from bitnet_core.traces.steps import TeacherStep, fault

# Digits, accents, two scripts and code: what tokenizers cut most differently. The answer is plain ASCII: of a
# character made of several tokens, llama.cpp reports none but the last.
MESSAGES = (
    {
        "role": "user",
        "content": 'naïve café, 東京, Привет, 1995 + 2024 = 4019, {"a": [1, 2]}, f(x): x**2. English? Say yes or no.',
    },
)
_NUCLEUS = 0.01
"""The likeliest token is sampled at every temperature, so that both answers are of the same kind."""
_COLD, _WARM = 0.2, 1.5
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

    def temperature(self, sampled_at: float) -> float:
        """The temperature that the logprobs of an answer sampled at `sampled_at` are at."""
        return 1.0 if self.mode == "raw" else sampled_at

    def record(self) -> dict[str, Any]:
        return asdict(self)


def one_token(top_logprobs: int, temperature: float = _COLD) -> ChatRequest:
    """The request that probes are made of."""
    return ChatRequest(MESSAGES, 1, temperature, _NUCLEUS, top_logprobs)


async def probe(teacher: Teacher, top_logprobs: int) -> Verdict:
    """Two requests of one token each. BitnetError when traces can't be made from this teacher."""
    if teacher.provider.logprobs == "no":
        raise no_logprobs(teacher.name, teacher.model)
    seconds: list[float] = []
    answers: list[ChatResult] = []
    try:
        for temperature in (_COLD, _WARM):
            began = time.monotonic()
            answers.append(await teacher.chat(one_token(top_logprobs, temperature), attempts=2))
            seconds.append(time.monotonic() - began)
    except BadReply as error:
        raise BitnetError(
            f"{teacher.name} answers in a shape that can't be used ({error}); use another one."
        ) from error
    cold, warm = answers
    first, second = first_step(teacher, cold), first_step(teacher, warm)
    return Verdict(
        mode="raw" if _same(first, second) else "scaled",
        candidates=len(first.top_logprobs),
        token_ids=all(index >= 0 for index in first.top_ids),
        exact_bytes=_BYTES.search(cold.body) is not None,
        latency_s=min(seconds),
        served_model=cold.model,
    )


def first_step(teacher: Teacher, result: ChatResult) -> TeacherStep:
    """The answer's first step, with numbers that can be used; else NoLogprobs, naming who has them."""
    step = result.steps.step(0) if result.steps is not None else None
    if step is None or not step.top_logprobs:
        raise no_logprobs(teacher.name, teacher.model)
    reason = fault(step)
    if reason is not None:
        raise no_logprobs(teacher.name, teacher.model, f"what it sends is unusable: {reason.replace('_', ' ')}")
    return step


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
    if len(pairs) < 2:
        return False
    cold, warm = (statistics.pstdev(side) for side in zip(*pairs, strict=True))
    return bool(1 / _APART < (cold + _NOISE) / (warm + _NOISE) < _APART)
