"""A transformers model in this process as a teacher: concurrent requests are decoded together.

One thread owns the model. Requests join its batch between two tokens, and leave it when they end or are cancelled.
Heavy: imported only when such a teacher is opened.
"""

import asyncio
import codecs
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Unpack

import torch

from bitnet_core.errors import BitnetError
from bitnet_core.prompts.prompt import Given
from bitnet_core.settings.values import Sampling
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.chat import CallOptions, ChatRequest, OnText
from bitnet_core.teachers.hf.answer import AnswerWriter
from bitnet_core.teachers.hf.decoding import Choice, RunningBatch
from bitnet_core.teachers.hf.model import LoadedModel, out_of_memory
from bitnet_core.teachers.hf.scoring import GivenText, given_choices
from bitnet_core.teachers.profiles import Provider
from bitnet_core.teachers.refusals import ContextExceeded, PromptRefused
from bitnet_core.tokenizer.refused import Refused
from bitnet_core.tokenizer.steps import TokenTable

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


@dataclass
class _Job:
    """One request that the thread is to answer; the result of `done` is the finish reason."""

    prompt: list[int]
    sampling: Sampling
    candidates: int
    seed: int | None
    on_text: OnText | None
    loop: asyncio.AbstractEventLoop
    done: "asyncio.Future[str]"
    given: list[int] | None = None
    """The ids to score instead of drawing any."""
    draws: bool = False
    """Whether its candidates are draws."""
    cancelled: bool = False
    choices: list[Choice] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _Utf8Decoder("replace"))
    joined_at: float = 0.0
    prompt_read_at: float = 0.0
    ended_at: float = 0.0


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
        self._writer = AnswerWriter(model, loaded.tokenizer, loaded.ends, self.table)
        self._waiting: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="transformers", daemon=True)

    async def __aenter__(self) -> "TransformersChat":
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)

    async def models(self) -> list[str]:
        return [self.model]

    def memory(self) -> int:
        return self._loaded.memory()

    async def chat(self, request: ChatRequest, **options: Unpack[CallOptions]) -> ChatResult:
        """See `Chat.chat`. An answer that fills the context ends there with "length", a given one too.

        `attempts` and `seconds` have no effect: a model in this process has no failures that pass, and does not hang.
        """
        tokenizer = self._loaded.tokenizer
        try:
            prompt = tokenizer.encode_prompt(request.messages).ids
        except Refused as error:
            raise PromptRefused(
                f"The {error.by} of {self.model} can't take this prompt ({error.reason}); change the prompt."
            ) from error
        room = self._loaded.context - len(prompt)
        if room < 1:
            raise ContextExceeded(
                f"{self.model} can't take a prompt this long ({len(prompt)} tokens, its context is "
                f"{self._loaded.context}); shorten it or raise TEACHER_CTX_LEN."
            )
        watch = options.get("watch")
        if watch is not None:
            await watch.sent()
        loop = asyncio.get_running_loop()
        job = _Job(
            prompt,
            Sampling(max_tokens=min(request.max_tokens, room), temperature=request.temperature, top_p=request.top_p),
            request.top_logprobs,
            request.seed,
            options.get("on_text"),
            loop,
            loop.create_future(),
            None if request.given is None else self._ids(request.given, min(request.max_tokens, room)),
            request.draws,
        )
        self._waiting.put(job)
        try:
            finish_reason = await job.done
        finally:
            job.cancelled = True
        return self._writer.write(
            job.choices,
            "".join(job.text),
            finish_reason,
            logprobs=job.candidates > 0,
            prompt_tokens=len(prompt),
            timings={
                "prompt_n": len(prompt),
                "prompt_ms": 1000 * (job.prompt_read_at - job.joined_at),
                "predicted_n": len(job.choices),
                "predicted_ms": 1000 * (job.ended_at - job.prompt_read_at),
            },
        )

    def _ids(self, given: Given, most: int) -> list[int]:
        """The ids of a given answer, with the end token if it is whole."""
        tokenizer = self._loaded.tokenizer
        try:
            ids = tokenizer.encode_bytes(given.text.encode())
        except Refused as error:
            raise PromptRefused(
                f"The {error.by} of {self.model} can't take this text ({error.reason}); change the text."
            ) from error
        return [*ids, *[tokenizer.eos_id] * given.ends][:most]

    def requested_sampling(self, request: ChatRequest) -> Mapping[str, Any]:
        """See `Chat.requested_sampling`."""
        return {"temperature": request.temperature, "top_p": request.top_p, "seed": request.seed}

    # -- the thread --------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _work(self) -> None:
        jobs: list[_Job] = []
        batch = RunningBatch(self._loaded.model, self._loaded.known)
        while not self._closing:
            try:
                with out_of_memory(
                    f"The memory of {self._loaded.model.device} is too small for {self.model} with up to "
                    f"{self._parallel} answers at once; lower KD_CONCURRENCY or choose a smaller model."
                ):
                    self._admit(batch, jobs)
                    if any(job.given is not None for job in jobs):
                        self._score(jobs)
                    if jobs:
                        self._decode_token(batch, jobs)
            except Exception as error:  # noqa: BLE001 - raised where the answers are awaited
                for job in jobs:
                    _settle(job, error)
                jobs.clear()
                batch = RunningBatch(self._loaded.model, self._loaded.known)
        while not self._waiting.empty():
            waiting = self._waiting.get()
            if waiting is not None:
                jobs.append(waiting)
        for job in jobs:
            _settle(job, BitnetError("The teacher was closed before it answered."))

    def _admit(self, batch: RunningBatch, jobs: list[_Job]) -> None:
        """Fill the batch from the queue; wait for a job if the batch is empty."""
        while len(jobs) < self._parallel:
            try:
                job = self._waiting.get(block=not jobs)
            except queue.Empty:
                return
            if job is None:
                return
            if job.cancelled:
                continue
            jobs.append(job)
            job.joined_at = time.perf_counter()
            if job.given is not None:
                continue
            batch.join(job.prompt, job.sampling, job.candidates, job.seed, draws=job.draws)
            job.prompt_read_at = time.perf_counter()

    def _score(self, jobs: list[_Job]) -> None:
        """Score the given answers of all these jobs, and drop them."""
        given = [job for job in jobs if job.given is not None]
        texts = [GivenText(job.prompt, job.given or (), job.candidates, self._generator(job)) for job in given]
        for job, choices in zip(given, given_choices(self._loaded, texts), strict=True):
            job.prompt_read_at, job.ended_at = job.joined_at, time.perf_counter()
            finish_reason = [self._take(job, choice) for choice in choices][-1]
            _settle(job, finish_reason or "length")
        jobs[:] = [job for job in jobs if job.given is None]

    def _generator(self, job: _Job) -> torch.Generator | None:
        return torch.Generator(self._loaded.model.device).manual_seed(job.seed or 0) if job.draws else None

    def _decode_token(self, batch: RunningBatch, jobs: list[_Job]) -> None:
        """Decode one token of each job; jobs that end leave the batch."""
        going = []
        for place, (job, choice) in enumerate(zip(jobs, batch.choose(), strict=True)):
            finish_reason = self._take(job, choice)
            if finish_reason is not None:
                job.ended_at = time.perf_counter()
                _settle(job, finish_reason)
            elif not job.cancelled:
                going.append(place)
        batch.keep(going)
        jobs[:] = [jobs[place] for place in going]
        batch.forward()

    def _take(self, job: _Job, choice: Choice) -> str | None:
        """Add a token to the job; the finish reason if it is the last one."""
        job.choices.append(choice)
        ended = choice.token in self._loaded.ends
        finish_reason = "stop" if ended else "length" if len(job.choices) >= job.sampling.max_tokens else None
        data = b"" if ended else self._loaded.tokenizer.text_bytes(choice.token)
        text = job.decoder.decode(data, final=finish_reason is not None)
        if text:
            job.text.append(text)
            if job.on_text is not None:
                _pass_on(job, job.on_text, text)
        return finish_reason


def _pass_on(job: _Job, on_text: OnText, text: str) -> None:
    def call() -> None:
        try:
            on_text(text)
        except Exception as error:  # noqa: BLE001 - raised where the answer is awaited
            job.done.set_exception(error)

    _in_loop(job, call)


def _settle(job: _Job, outcome: str | Exception) -> None:
    if isinstance(outcome, Exception):
        _in_loop(job, partial(job.done.set_exception, outcome))
    else:
        _in_loop(job, partial(job.done.set_result, outcome))


def _in_loop(job: _Job, call: Callable[[], None]) -> None:
    """Call it in the loop that waits for the job, unless the job has been settled."""
    with contextlib.suppress(RuntimeError):  # a closed loop has nothing left that waits
        job.loop.call_soon_threadsafe(lambda: None if job.done.done() else call())
