"""Ask a teacher for a few tokens before anything is spent: can its logprobs be used, and how are they scaled?

The first answer has several tokens, is asked for as collecting asks, and is judged as every answer is, because some
faults show only in the second token. Every error is one sentence that names what to do instead. It must not know
stages.
"""

import re
import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.judge import only_thinking, probe_fault
from bitnet_core.teachers.neutral import MESSAGES, PLAIN, TOKENS, few_tokens, few_tokens_seconds
from bitnet_core.teachers.refusals import (
    PromptRefused,
    TooManyCandidates,
    no_logprobs,
    too_many_candidates,
    unusable_logprobs,
)
from bitnet_core.teachers.scale import LEAST_COMPARED, UNUSABLE, Ask, first_step, measure_scale
from bitnet_core.teachers.teacher import Teacher

_TRIES = 3
"""Half a character may be sampled: some servers don't report its bytes, and llama.cpp reports nothing at all."""
_THINKING_TOKENS = 512
"""Asked for once where the first tokens were all thinking."""
_BYTES = re.compile(rb'"bytes"\s*:\s*\[')


_LATER = ("upstream", "refused", "thinking_tokens")


@dataclass(frozen=True)
class Verdict:
    """What the probe found. `mode` is "raw" if logprobs don't depend on the sampling, "scaled" if they do or may do,
    and "unmeasured" if the server takes no temperature, so that even the temperature of the answers is unknown."""

    mode: str
    candidates: int
    """Candidates a step, at most as many as were asked for."""
    token_ids: bool = False
    exact_bytes: bool = False
    """Whether tokens come with their bytes; otherwise their text is used."""
    latency_s: float | None = None
    """Of the fastest request."""
    served_model: str = ""
    """The name of the model as the server gives it."""
    upstream: str = ""
    """The provider behind a router that answered; only it is asked from then on."""
    refused: tuple[str, ...] = ()
    """The sampling fields that the model refuses; they are left out of every request."""
    thinking_tokens: int = 0
    """How many tokens had to be asked for until there was text, because the first ones were thinking; else 0."""

    def temperature(self, sampled_at: float) -> float | None:
        """The temperature of the logprobs in an answer that was sampled at `sampled_at`; None if it is unknown."""
        return {"raw": 1.0, "unmeasured": None}.get(self.mode, sampled_at)

    def record(self) -> dict[str, Any]:
        """The verdict as it is stored. What is empty is left out, as in shards from before there was such a field."""
        stored = asdict(self) | {"refused": list(self.refused)}
        return {name: value for name, value in stored.items() if name not in _LATER or value}


async def ask_probe(teacher: Teacher, request: ChatRequest, tries: int = _TRIES) -> ChatResult:
    """The answer to a probe, asked for again after a bad reply. Raises the last BadReply."""
    for tries_left in reversed(range(tries)):
        try:
            return await teacher.chat(request, attempts=2, seconds=few_tokens_seconds(teacher.provider))
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
    seconds = few_tokens_seconds(teacher.provider)
    try:
        result = await teacher.chat(request, attempts=2, seconds=seconds, on_text=lambda _: None)
    except BadReply as error:
        if error.reason != "no_text":
            raise
        return time.monotonic() - began, False
    return time.monotonic() - began, bool(result.text)


async def probe(
    teacher: Teacher, top_logprobs: int, known: Verdict | None = None, sampling: Sampling = PLAIN
) -> Verdict:
    """Judge a teacher by a few answers. BitnetError if traces can't be made from it with this sampling.

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
    asked = max(top_logprobs, LEAST_COMPARED)
    request = few_tokens(asked, sampling)
    seconds: list[float] = []

    thinking_tokens = 0

    async def ask(request: ChatRequest) -> ChatResult:
        began = time.monotonic()
        if thinking_tokens:  # a long answer is asked for once
            answer = await ask_probe(teacher, replace(request, max_tokens=thinking_tokens), tries=1)
        else:
            answer = await ask_probe(teacher, request)
        seconds.append(time.monotonic() - began)
        return answer

    try:
        try:
            answer = await _explained(teacher, request, ask)
        except _OnlyThinking:
            thinking_tokens = max(TOKENS, min(_THINKING_TOKENS, sampling.max_tokens))
            request = replace(request, max_tokens=thinking_tokens)
            answer = await _after_thinking(teacher, request, ask)
    except TooManyCandidates as error:
        if error.most >= top_logprobs:
            alone = "it gives one candidate a token, which does not show whether the temperature scales it"
            raise no_logprobs(teacher.name, teacher.model, alone) from error
        raise
    first = first_step(teacher, answer)
    if fault := probe_fault(answer, request.max_tokens):
        raise unusable_logprobs(teacher.name, teacher.model, *fault)
    teacher.pin(answer.upstream)
    fixed = known is not None and "temperature" in known.refused
    scale = await measure_scale(teacher, request, answer, ask, known_fixed=fixed)
    if scale.mode != "raw":
        teacher.send_neutral_values()
    return Verdict(
        mode=scale.mode,
        candidates=min(top_logprobs, max(answer.candidates, scale.candidates)),
        token_ids=all(index >= 0 for index in first.top_ids),
        exact_bytes=_BYTES.search(answer.body) is not None,
        latency_s=min(seconds),
        served_model=answer.model,
        upstream=answer.upstream,
        refused=tuple(sorted(teacher.left_out)),
        thinking_tokens=thinking_tokens,
    )


class _OnlyThinking(Exception):
    """The first tokens have no text, with logprobs and without."""


async def _explained(teacher: Teacher, request: ChatRequest, ask: Ask) -> ChatResult:
    """The first answer. BitnetError for a teacher that sends only bad replies, _OnlyThinking if they have no text."""
    failure: BadReply | PromptRefused
    try:
        return await ask(request)
    except (BadReply, PromptRefused) as error:
        failure = error
    if isinstance(failure, BadReply) and failure.reason in UNUSABLE:
        raise unusable_logprobs(teacher.name, teacher.model, str(failure), "choose another model") from failure
    has_text = await _answers_without_logprobs(teacher)
    if has_text is False and isinstance(failure, BadReply) and failure.reason == "no_text":
        raise _OnlyThinking from failure
    if has_text is not None:
        raise no_logprobs(
            teacher.name, teacher.model, f"it answers without them, and with them: {failure}"
        ) from failure
    if isinstance(failure, PromptRefused):
        raise failure
    raise BitnetError(
        f"{teacher.name} answers in a shape that can't be used ({failure}); use another one."
    ) from failure


async def _after_thinking(teacher: Teacher, request: ChatRequest, ask: Ask) -> ChatResult:
    """The answer to the same request for more tokens, asked for once. UnusableLogprobs if it can't be used either."""
    try:
        return await ask(request)
    except BadReply as error:
        if error.reason == "no_text":
            raise unusable_logprobs(teacher.name, teacher.model, *only_thinking(request.max_tokens)) from error
        raise unusable_logprobs(teacher.name, teacher.model, str(error), "choose another model") from error


async def _answers_without_logprobs(teacher: Teacher) -> bool | None:
    """Whether there is text in its answer without logprobs; None if there is no answer."""
    try:
        _, has_text = await plain_answer(teacher)
    except (BadReply, BitnetError):
        return None
    return has_text
