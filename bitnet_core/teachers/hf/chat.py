"""A transformers model in this process as a teacher: requests that come together are decoded together.

One thread owns the model; requests join its batch between two tokens and leave it when they end or are given up.
Answers are written down in OpenAI's shape (with ids, as llama.cpp does), so that they are kept and read like all
others. Heavy: imported only when such a teacher is opened.
"""

import asyncio
import codecs
import contextlib
import json
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.read import ChatResult, checked, parse_chat
from bitnet_core.teachers.chat import ChatRequest, ContextExceeded, OnText
from bitnet_core.teachers.hf.decoding import Batch, Choice, Sampling
from bitnet_core.teachers.hf.model import LoadedModel, out_of_memory
from bitnet_core.teachers.http.retries import ATTEMPTS, Watch
from bitnet_core.teachers.profiles import Provider
from bitnet_core.tokenizer.steps import TokenTable


@dataclass
class _Job:
    """One request on its way through the thread."""

    prompt: list[int]
    sampling: Sampling
    most: int
    """Tokens that it may have."""
    on_text: OnText | None
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[bytes]"
    given_up: bool = False
    entries: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    tokens: int = 0
    decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(errors="replace")
    )
    prompt_seconds: float = 0.0
    began: float = 0.0


class TransformersChat:
    """See `chat.Chat`. At most `parallel` answers are decoded at once; others wait."""

    base_url = ""

    def __init__(
        self, provider: Provider, model: str, loaded: LoadedModel, *, parallel: int, table: TokenTable | None = None
    ) -> None:
        self.provider = provider
        self.model = model
        self.table = TokenTable() if table is None else table
        self._loaded = loaded
        self._parallel = parallel
        self._spelled: dict[int, str] = {}
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._ending = False
        self._thread = threading.Thread(target=self._work, name="transformers", daemon=True)

    async def __aenter__(self) -> "TransformersChat":
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    async def models(self) -> list[str]:
        return [self.model]

    def memory(self) -> int:
        return self._loaded.memory()

    async def chat(
        self,
        request: ChatRequest,
        *,
        attempts: int = ATTEMPTS,  # noqa: ARG002 - nothing here fails for a while
        on_text: OnText | None = None,
        watch: Watch | None = None,
        seconds: float | None = None,  # noqa: ARG002 - nobody hangs here but the machine itself
    ) -> ChatResult:
        """See `Chat.chat`. An answer that meets the end of the context ends there, as too long."""
        tokenizer = self._loaded.tokenizer
        prompt = tokenizer.encode(tokenizer.render_prompt(request.messages))
        room = self._loaded.context - len(prompt)
        if room < 1:
            raise ContextExceeded(
                f"{self.model} can't take a prompt this long ({len(prompt)} tokens, its context is "
                f"{self._loaded.context}); shorten it or raise TEACHER_CTX_LEN."
            )
        if watch is not None:
            await watch.sent()
        loop = asyncio.get_running_loop()
        job = _Job(
            prompt,
            Sampling(request.temperature, request.top_p, request.top_logprobs, request.seed),
            min(request.max_tokens, room),
            on_text,
            loop,
            loop.create_future(),
        )
        self._waiting.put(job)
        try:
            body = await job.done
        finally:
            job.given_up = True
        return checked(lambda: parse_chat(json.loads(body), body, self.table), body)

    def sent(self, request: ChatRequest) -> dict[str, Any]:
        """See `Chat.sent`."""
        return {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed}

    # -- the thread --------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _work(self) -> None:
        jobs: list[_Job] = []
        batch = Batch(self._loaded.model, self._loaded.known)
        while not self._ending:
            try:
                with out_of_memory(
                    f"The memory of {self._loaded.model.device} is too small for {self.model} with up to "
                    f"{self._parallel} answers at once; lower KD_CONCURRENCY or choose a smaller model."
                ):
                    self._admit(batch, jobs)
                    if jobs:
                        self._round(batch, jobs)
            except Exception as error:  # noqa: BLE001 - it belongs to those who wait for an answer
                for job in jobs:
                    _settle(job, error)
                jobs.clear()
                batch = Batch(self._loaded.model, self._loaded.known)
        for job in (*jobs, *self._left()):
            _settle(job, BitnetError("The teacher was closed before it had answered."))

    def _left(self) -> list[_Job]:
        jobs = []
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._waiting.get_nowait()
                if job is not None:
                    jobs.append(job)
        return jobs

    def _admit(self, batch: Batch, jobs: list[_Job]) -> None:
        """Fill the batch from those who wait; wait for one where it is empty."""
        while len(jobs) < self._parallel:
            try:
                job = self._waiting.get(block=not jobs)
            except queue.Empty:
                return
            if job is None:
                return
            if job.given_up:
                continue
            jobs.append(job)
            started = time.perf_counter()
            batch.join(job.prompt, job.sampling)
            job.began = time.perf_counter()
            job.prompt_seconds = job.began - started

    def _round(self, batch: Batch, jobs: list[_Job]) -> None:
        """One token for everybody."""
        going = []
        for place, (job, choice) in enumerate(zip(jobs, batch.choose(), strict=True)):
            finish = self._take(job, choice)
            if finish is not None:
                _settle(job, self._body(job, finish))
            elif not job.given_up:
                going.append(place)
        batch.keep(going)
        jobs[:] = [jobs[place] for place in going]
        batch.forward()

    def _take(self, job: _Job, choice: Choice) -> str | None:
        """Write a token down; why the answer is over, if it is."""
        job.tokens += 1
        if job.sampling.candidates:
            tops = ",".join(
                f"{{{self._spelling(index)},{_logprob(logprob)}}}"
                for index, logprob in zip(choice.top_ids, choice.top_logprobs, strict=True)
                if logprob != -math.inf
            )
            spelling = self._spelling(choice.token)
            job.entries.append(f'{{{spelling},{_logprob(choice.logprob)},"top_logprobs":[{tops}]}}')
        ended = choice.token in self._loaded.ends
        finish = "stop" if ended else "length" if job.tokens >= job.most else None
        said = b"" if ended else self._loaded.tokenizer.text_bytes(choice.token)
        text = job.decoder.decode(said, final=finish is not None)
        if text:
            job.text.append(text)
            if job.on_text is not None:
                _tell(job, text)
        return finish

    def _spelling(self, index: int) -> str:
        """The fields of a token that don't change; what ends an answer, or is no text, has no bytes."""
        found = self._spelled.get(index)
        if found is None:
            data = b"" if index in self._loaded.ends else self._loaded.tokenizer.text_bytes(index)
            token = json.dumps(data.decode("utf-8", errors="replace"))
            found = self._spelled[index] = f'"id":{index},"token":{token},"bytes":{json.dumps(list(data))}'
        return found

    def _body(self, job: _Job, finish: str) -> bytes:
        prompt_tokens = len(job.prompt)
        message = {"role": "assistant", "content": "".join(job.text)}
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": job.tokens,
            "total_tokens": prompt_tokens + job.tokens,
        }
        timings = {
            "prompt_n": prompt_tokens,
            "prompt_ms": 1000 * job.prompt_seconds,
            "predicted_n": job.tokens,
            "predicted_ms": 1000 * (time.perf_counter() - job.began),
        }
        logprobs = f'{{"content":[{",".join(job.entries)}]}}' if job.entries else "null"
        return (
            f'{{"object":"chat.completion","model":{json.dumps(self.model)},"choices":[{{"index":0,'
            f'"message":{json.dumps(message)},"finish_reason":"{finish}","logprobs":{logprobs}}}],'
            f'"usage":{json.dumps(usage)},"timings":{json.dumps(timings)}}}'
        ).encode()


def _logprob(value: float) -> str:
    """Nine digits are all that a float32 has. JSON has no NaN: the reader takes null for it."""
    return f'"logprob":{"null" if math.isnan(value) else format(value, ".9g")}'


def _tell(job: _Job, text: str) -> None:
    def tell() -> None:
        if job.on_text is None or job.done.done():
            return
        try:
            job.on_text(text)
        except Exception as error:  # noqa: BLE001 - the caller's own, and so for the caller
            job.done.set_exception(error)

    _in_loop(job, tell)


def _settle(job: _Job, outcome: bytes | Exception) -> None:
    def settle() -> None:
        if job.done.done():
            return
        if isinstance(outcome, Exception):
            job.done.set_exception(outcome)
        else:
            job.done.set_result(outcome)

    _in_loop(job, settle)


def _in_loop(job: _Job, call: Callable[[], None]) -> None:
    # A loop that is closed has nobody left who waits.
    with contextlib.suppress(RuntimeError):
        job.loop.call_soon_threadsafe(call)
