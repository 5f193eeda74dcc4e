"""Ask a teacher for two tokens before anything is spent: can its logprobs be used, and whose vocabulary are they in?

Every refusal is one sentence that names what would do instead.
"""

import math
import statistics
from dataclasses import dataclass

from bitnet_core.errors import BitnetError
from bitnet_core.providers.openai_chat import no_logprobs
from bitnet_core.providers.replies import BadReply, ChatResult
from bitnet_core.providers.teacher import Teacher
from bitnet_core.traces.steps import TeacherStep, fault
from bitnet_core.traces.tokenizer import StudentTokenizer

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


@dataclass(frozen=True)
class Verdict:
    """What the probe found. `mode` "raw": logprobs don't depend on the temperature; "scaled": they do."""

    mode: str
    candidates: int

    def temperature(self, sampled_at: float) -> float:
        """The temperature that the logprobs of an answer sampled at `sampled_at` are at."""
        return 1.0 if self.mode == "raw" else sampled_at


async def probe(teacher: Teacher, tokenizer: StudentTokenizer, top_logprobs: int) -> Verdict:
    """Two requests of one token each. BitnetError when traces can't be made from this teacher."""
    try:
        cold = await teacher.chat(MESSAGES, 1, _COLD, _NUCLEUS, top_logprobs, attempts=2)
        warm = await teacher.chat(MESSAGES, 1, _WARM, _NUCLEUS, top_logprobs, attempts=2)
    except BadReply as error:
        raise BitnetError(
            f"{teacher.name} answers in a shape that can't be used ({error}); use another one."
        ) from error
    first, second = _first_step(teacher, cold), _first_step(teacher, warm)
    _check_vocabulary(teacher, tokenizer, first, cold.prompt_tokens)
    return Verdict("raw" if _same(first, second) else "scaled", len(first.top_logprobs))


def _first_step(teacher: Teacher, result: ChatResult) -> TeacherStep:
    if not result.steps or not result.steps[0].top_logprobs:
        raise no_logprobs(teacher.name, teacher.model)
    step = result.steps[0]
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


def _check_vocabulary(teacher: Teacher, tokenizer: StudentTokenizer, step: TeacherStep, prompt_tokens: int) -> None:
    known = all(_is_token(index, data, tokenizer) for index, data in zip(step.top_ids, step.top_bytes, strict=True))
    if any(index < 0 for index in step.top_ids) and prompt_tokens:
        # Without ids, words alone prove nothing; the length of a whole prompt does.
        known = known and prompt_tokens == len(tokenizer.encode(tokenizer.render_prompt(MESSAGES)))
    if not known:
        raise BitnetError(
            f"{teacher.model} at {teacher.name} has another vocabulary than the student's tokenizer "
            f"({tokenizer.name}), which is not supported yet; use TEACHER_PROVIDER=embedded, or serve that model."
        )


def _is_token(index: int, data: bytes, tokenizer: StudentTokenizer) -> bool:
    if index < 0:
        return not data or data in tokenizer.ids_by_bytes
    return index < tokenizer.vocab_size and (
        index in tokenizer.special_ids if not data else tokenizer.token_bytes(index) == data
    )
