"""Open the teacher that the options name: embedded, in this process, or over HTTP.

Wires options, secrets, the table of providers and the client together. It must not know traces.
"""

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from bitnet_core.files.wheels import Progress
from bitnet_core.settings.values import TeacherOptions
from bitnet_core.teachers.answers.result import Reader
from bitnet_core.teachers.chat import HttpChat
from bitnet_core.teachers.embedded.files import MAX_CONTEXT, ensure_files
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.teachers.hf.files import locate
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.retries import FailedAttempt, OnRetry
from bitnet_core.teachers.identity import Identity, identify
from bitnet_core.teachers.profiles import Provider
from bitnet_core.teachers.refusals import missing_key
from bitnet_core.teachers.teacher import Teacher
from bitnet_core.teachers.wire.anthropic import AnthropicMessages
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.steps import TokenTable

if TYPE_CHECKING:
    from bitnet_core.teachers.hf.chat import TransformersChat

_T = TypeVar("_T")

_CONTEXT_MULTIPLE = 256
_CLEANUP_SECONDS = 2.0
_ALERT_SECONDS = 30.0
"""At most one alert in this time for each reason, or a busy provider would fill the log."""
_NOTABLE_SECONDS = 15.0
"""A wait of this length is told as soon as the one that was told before is over."""
_LONG_SECONDS = 600.0
"""A wait of this length is worth a decision: to wait, or to start later."""


class Host(Protocol):
    """What opens a teacher: a stage's context, or a command. `secret` looks up a key by the name of its setting."""

    def secret(self, name: str) -> str | None: ...

    def alert(self, severity: str, code: str, message: str, advice: str = "") -> None: ...

    def check_stop(self) -> None: ...

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None: ...


WIRES: dict[str, type[HttpChat]] = {
    "openai": OpenAIChat,
    "anthropic": AnthropicMessages,
    "gemini": GeminiContent,
}


def usual_requests(provider: str) -> int:
    """How many requests are kept in flight unless KD_CONCURRENCY says otherwise."""
    return {"embedded": 4, "hf": 8}.get(provider, 32)


def reader(provider: Provider) -> Reader:
    """Reads the answers that the journal keeps; a model in this process writes them as OpenAI does."""
    return WIRES.get(provider.wire, OpenAIChat).read_answer


def open_teacher(
    host: Host,
    options: TeacherOptions,
    *,
    device: Callable[[], Any] = lambda: "cpu",
    identity: Identity | None = None,
    parallel: int = 1,
    waiting: int = 0,
    context: int | None = None,
    table: TokenTable | None = None,
) -> AbstractAsyncContextManager[Teacher]:
    """A teacher that answers `parallel` requests at once, with `waiting` more in its queue; closed on exit.

    `identity` is a provider other than the teacher of the options. `device` chooses the torch device for a model in
    this process. The embedded server's slots share `context` tokens; one request gets at most `options.context`.
    `table` numbers the tokens of all answers.

    Raises BitnetError for a missing key, model or address, a failed download, or a server that does not start.
    """
    teacher = identity or identify(options)
    if teacher.provider.name == "embedded":
        limit = min(options.context, MAX_CONTEXT)
        shared = limit * parallel if context is None else min(context, limit * parallel)
        return _open_embedded(host, teacher, parallel, waiting, shared, table)
    key, key_name = _key(host, teacher)
    if key is None and teacher.provider.needs_key:
        raise missing_key(teacher.provider, own=teacher.own)
    if teacher.provider.wire != "transformers":
        return _open_over_http(host, teacher, key, parallel, table, key_name=key_name)

    def load() -> "TransformersChat":
        from bitnet_core.teachers.hf import chat, model  # only here, because they import torch

        loaded = model.load(teacher.model, options, device(), key)
        if loaded.unused:
            host.alert(
                "warning",
                "unused_tensors",
                f"The configuration of {teacher.model} leaves out {len(loaded.unused)} of its tensors, such as "
                f"{loaded.unused[0]:.80}.",
                "If they are part of the model, correct its config.json, or what it answers is not its own.",
            )
        return chat.TransformersChat(teacher.provider, teacher.model, loaded, parallel=parallel, table=table)

    return open_in_process(host, teacher.model, load)


@contextlib.asynccontextmanager
async def _open_embedded(
    host: Host, identity: Identity, parallel: int, waiting: int, context: int, table: TokenTable | None
) -> AsyncIterator[Teacher]:
    files = await _in_daemon_thread(lambda: ensure_files(fetch_progress(host)))
    context = max(-(-context // _CONTEXT_MULTIPLE), 1) * _CONTEXT_MULTIPLE
    server = EmbeddedServer(files.gguf, parallel=parallel, context=context)
    try:
        await _in_daemon_thread(server.start)
        served = replace(identity, base_url=server.base_url)
        async with _open_over_http(host, served, server.api_key, parallel + waiting, table, server) as teacher:
            yield teacher
    finally:
        server.close()


@contextlib.asynccontextmanager
async def open_in_process(host: Host, model: str, load: Callable[[], "TransformersChat"]) -> AsyncIterator[Teacher]:
    """The teacher that `load` makes in a thread; closed on exit."""
    host.progress(0, None, "models", f"loading {model}")
    async with await _in_daemon_thread(load) as chat:
        yield Teacher(chat, memory=chat.memory)


@contextlib.asynccontextmanager
async def _open_over_http(
    host: Host,
    identity: Identity,
    key: str | None,
    connections: int,
    table: TokenTable | None,
    server: EmbeddedServer | None = None,
    key_name: str = "",
) -> AsyncIterator[Teacher]:
    pace = Pace(connections)
    async with WIRES[identity.provider.wire](
        identity.provider,
        identity.base_url,
        identity.model,
        key,
        on_retry=_alert_of_retries(host, identity.provider, pace),
        pace=pace,
        table=table,
        own=identity.own,
        key_name=key_name,
    ) as chat:
        yield Teacher(chat, server, pace)


def _key(host: Host, identity: Identity) -> tuple[str | None, str]:
    """The key, and the name of the setting that has it."""
    return next(((found, name) for name in identity.key_settings if (found := host.secret(name))), (None, ""))


def _alert_of_retries(host: Host, provider: Provider, pace: Pace) -> OnRetry:
    """Tells now and then why requests wait, and how long."""
    silent_until: dict[tuple[str, bool], float] = {}

    def on_retry(error: FailedAttempt) -> None:
        reason, asked = error.reason, error.wait
        now, wait = time.monotonic(), pace.wait_s() if asked is None else asked
        told = reason, wait >= _NOTABLE_SECONDS
        if now < silent_until.get(told, now):
            return
        silent_until[told] = now + (min(wait, _ALERT_SECONDS) if told[1] else _ALERT_SECONDS)
        code = "rate_limited" if error.rate_limited else "retrying"
        soon = "soon" if wait < 1 and asked is None else f"in {wait:.0f} s{'' if asked is None else ', as it asks'}"
        advice = "Nothing to do." if wait < _LONG_SECONDS else "Wait, or stop the run and start it later."
        host.alert("warning", code, f"{provider.name}: {reason}; trying again {soon}.", error.advice or advice)

    return on_retry


def fetch_model(host: Host, identity: Identity) -> None:
    """Download a model that runs in this process, so that `Identity.origin` can be known without a key."""
    if identity.provider.wire == "transformers":
        locate(identity.model, _key(host, identity)[0])


def fetch_progress(host: Host) -> Progress:
    """Show the download of the embedded teacher as progress; a stopped host stops it."""

    def report(label: str, done: int, total: int) -> None:
        host.check_stop()
        host.progress(done, total, "bytes" if total > 1 else "steps", label)

    return report


async def _in_daemon_thread(work: Callable[[], _T]) -> _T:
    """Like `asyncio.to_thread`, but neither a cancelled caller nor the end of the program waits until `work` is done.

    Work that calls `check_stop` gets a moment to clean up; other work ends with the process.
    """
    outcome: concurrent.futures.Future[_T] = concurrent.futures.Future()
    outcome.set_running_or_notify_cancel()  # from now on, cancelling the caller does not cancel it

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            outcome.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return await asyncio.wrap_future(outcome)
    except asyncio.CancelledError:
        thread.join(_CLEANUP_SECONDS)
        raise
