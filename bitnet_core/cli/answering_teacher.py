"""`bitnet answer teacher`: the teacher of the settings, opened once. Heavy: imported when the command runs."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bitnet_core.cli.answering import MOST_CANDIDATES, Inbox, Request, emit, token
from bitnet_core.cli.ask import CommandHost
from bitnet_core.errors import BitnetError
from bitnet_core.settings.resolved import Resolution
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.stages.device import device_of
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import ChatRequest
from bitnet_core.teachers.identity import identify
from bitnet_core.teachers.opening import open_teacher
from bitnet_core.teachers.prices import price_of
from bitnet_core.teachers.refusals import NoLogprobs, TooManyCandidates
from bitnet_core.teachers.teacher import Teacher

_GRACE_SECONDS = 1.0
"""How long a stopped answer may take to bring its next piece, with which its candidates are kept."""
_ATTEMPTS = 2


class Answering:
    """The teacher of the settings. A model that must be loaded is opened by the first request, others at once."""

    def __init__(self, resolved: Resolution, runner: asyncio.Runner) -> None:
        options = TeacherOptions.of(resolved.settings)
        self._identity = identify(options)
        provider = self._identity.provider
        self._price = price_of(
            provider, self._identity.model, options.prices_file, address=self._identity.base_url or None
        )
        self._host = CommandHost(resolved, self._identity.key_settings)
        self._runner = runner
        self._stack = contextlib.AsyncExitStack()
        self._teacher: Teacher | None = None
        self._options, self._device = options, device_of(resolved.settings)
        self._top = 0 if provider.logprobs == "no" else provider.max_top_logprobs or MOST_CANDIDATES
        price = self._price
        emit(
            "side",
            None,
            side="teacher",
            name=self._identity.model,
            where=self._identity.base_url or "on this machine",
            logprobs=provider.logprobs,
            bits=None,
            price=None if price is None else {"input": price.input, "output": price.output},
            hosted=not provider.local,
        )
        if provider.wire != "transformers" and provider.name != "embedded":
            self._opened()  # sends nothing, and tells that a key is missing

    def _opened(self) -> Teacher:
        if self._teacher is None:
            opening = open_teacher(self._host, self._options, device=self._device, identity=self._identity)
            self._teacher = self._runner.run(self._stack.enter_async_context(opening))
        return self._teacher

    def close(self) -> None:
        self._runner.run(self._stack.aclose())

    def answer(self, request: Request, inbox: Inbox) -> None:
        """Tell one answer: its text piece by piece, then its tokens if there are logprobs."""
        teacher, started = self._opened(), time.perf_counter()
        first: list[float] = []

        def on_text(text: str) -> None:
            first.append(time.perf_counter())
            emit("text", request.id, text=text)

        result = self._runner.run(self._stoppable(teacher, request, on_text, inbox))
        if result is None:
            emit("end", request.id, finish_reason="stopped", tokens=None, tokens_per_s=None)
            return
        if not first and result.text:
            on_text(result.text)
        if result.steps is not None:
            steps = [result.steps.step(row) for row in range(len(result.steps))]
            tokens = [
                token(one.data, one.logprob, list(zip(one.top_bytes, one.top_logprobs, strict=True))) for one in steps
            ]
            emit("tokens", request.id, tokens=tokens)
        count = result.completion_tokens if result.counted else None
        emit(
            "end",
            request.id,
            finish_reason="stopped" if inbox.stopped.is_set() else result.finish_reason,
            tokens=count,
            tokens_per_s=_rate(result, count, first, started),
            usd=self._usd(result, count),
        )

    async def _stoppable(
        self, teacher: Teacher, request: Request, on_text: Callable[[str], None], inbox: Inbox
    ) -> ChatResult | None:
        """The answer, what there was of it when it was stopped, or None if a stopped one did not end."""
        loop = asyncio.get_running_loop()
        asking = asyncio.ensure_future(self._ask(teacher, request, on_text, inbox))

        def stop() -> None:
            self._host.stopping = inbox.ended
            loop.call_later(_GRACE_SECONDS, asking.cancel)

        inbox.on_stop = lambda: loop.call_soon_threadsafe(stop)
        if inbox.stopped.is_set():
            stop()
        try:
            return await asking
        except asyncio.CancelledError:
            return None
        finally:
            inbox.on_stop = lambda: None

    async def _ask(
        self, teacher: Teacher, request: Request, on_text: Callable[[str], None], inbox: Inbox
    ) -> ChatResult:
        """Ask; where candidates are refused, with fewer or without, from now on."""
        top = min(request.top, self._top)
        asked = ChatRequest(request.messages, request.max_tokens, request.temperature, 1.0, top, request.seed)
        options: Any = {"on_text": on_text, "enough": inbox.stopped.is_set, "attempts": _ATTEMPTS}
        try:
            return await teacher.chat(asked, **options)
        except TooManyCandidates as error:
            self._top = error.most if 0 < error.most < top else 0
        except NoLogprobs:
            self._top = 0
        return await teacher.chat(replace(asked, top_logprobs=self._top), **options)

    def _usd(self, result: ChatResult, count: int | None) -> float | None:
        """What the answer cost; None if its tokens or its price are not known."""
        if self._price is None or count is None or not result.prompt_tokens:
            return None
        return self._price.usd(result.prompt_tokens, count)


def answer(resolved: Resolution, inbox: Inbox) -> None:
    """Answer until stdin ends. BitnetError if no teacher is set, or if its key is missing."""
    with asyncio.Runner() as runner:
        answering = Answering(resolved, runner)
        try:
            for request in inbox.requests():
                try:
                    answering.answer(request, inbox)
                except BadReply as error:
                    emit("error", request.id, problem=f"The answer can't be used: {error}.")
                except BitnetError as error:
                    emit("error", request.id, problem=str(error))
        finally:
            answering.close()


def _rate(result: ChatResult, count: int | None, pieces: list[float], started: float) -> float | None:
    """Tokens a second: by the server's own clock if it tells, else from the first piece to the last."""
    told = result.timings.get("predicted_per_second")
    if told is None and (milliseconds := result.timings.get("predicted_ms", 0.0)) > 0 and count:
        told = 1000 * count / milliseconds
    if told is not None:
        return told
    seconds = pieces[-1] - pieces[0] if len(pieces) > 1 else time.perf_counter() - started
    return count / seconds if count and seconds > 0 else None
