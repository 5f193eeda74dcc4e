"""Open the teacher that the settings name: embedded, served or in this process, one face for all.

Wires settings, secrets, the provider table and the client together. Knows no traces.
"""

import asyncio
import contextlib
import importlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from bitnet_core.errors import BitnetError
from bitnet_core.settings.resolved import Settings
from bitnet_core.settings.values import DeviceOptions
from bitnet_core.teachers.chat import (
    Chat,
    ChatRequest,
    ChatResult,
    Failing,
    HttpChat,
    OnText,
    PromptRefused,
    Unreachable,
)
from bitnet_core.teachers.embedded import server as embedded
from bitnet_core.teachers.embedded.files import GGUF_SHA256
from bitnet_core.teachers.hf.files import locate, origin
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.retries import ATTEMPTS, Failure, Watch
from bitnet_core.teachers.profiles import Provider, profile
from bitnet_core.teachers.refusals import missing_key
from bitnet_core.teachers.wire.anthropic import AnthropicMessages
from bitnet_core.teachers.wire.gemini import GeminiContent
from bitnet_core.teachers.wire.openai import OpenAIChat
from bitnet_core.tokenizer.steps import TokenTable

_LEAST_CONTEXT = 256
_CLEANING_SECONDS = 2.0
_QUIET_SECONDS = 30.0
"""One alert a reason in so long: a busy provider would fill the log."""

_T = TypeVar("_T")


class Host(Protocol):
    """Who opens a teacher: a stage, or a command."""

    @property
    def settings(self) -> Settings: ...

    def secret(self, name: str) -> str | None: ...

    def alert(self, severity: str, code: str, message: str, advice: str = "") -> None: ...

    def check_stop(self) -> None: ...

    def progress(self, done: float, total: float | None, unit: str, label: str = "") -> None: ...


WIRES: dict[str, type[HttpChat]] = {
    "openai": OpenAIChat,
    "anthropic": AnthropicMessages,
    "gemini": GeminiContent,
}


def reader(provider: Provider) -> Callable[[bytes, TokenTable], ChatResult]:
    """Reads the answers that the journal keeps; a model in this process writes OpenAI's."""
    return WIRES.get(provider.wire, OpenAIChat).read


class Guard(Watch, Protocol):
    """A watch that is told of the end, too."""

    async def answered(self, result: ChatResult | None) -> None: ...


def ended(error: BitnetError) -> Failure:
    """What an exception says of the sending that it ended."""
    if isinstance(error, PromptRefused):
        return Failure.BROKEN if error.billed else Failure.REFUSED
    return Failure.BROKEN if isinstance(error, Failing | Unreachable) else Failure.REFUSED


class Teacher:
    """An open teacher. `origin` is "embedded" or the address it is served from."""

    def __init__(
        self,
        chat: Chat,
        server: embedded.EmbeddedServer | None = None,
        pace: Pace | None = None,
        memory: Callable[[], int | None] | None = None,
    ) -> None:
        self._chat = chat
        self._server = server
        self._memory = server.memory if server else memory
        self.pace = pace
        self.guard: Callable[[ChatRequest], Guard] | None = None
        """Makes the watch of a request that brings none of its own, so that probes are counted too."""
        self.provider = chat.provider
        self.name = chat.provider.name
        self.model = chat.model
        self.origin = "embedded" if server else chat.base_url

    async def chat(
        self,
        request: ChatRequest,
        *,
        attempts: int = ATTEMPTS,
        on_text: OnText | None = None,
        watch: Watch | None = None,
        seconds: float | None = None,
    ) -> ChatResult:
        """Ask once; see `Chat.chat`. BitnetError when the embedded server has died."""
        guard = self.guard(request) if watch is None and self.guard is not None else None
        result: ChatResult | None = None
        try:
            result = await self._chat.chat(
                request, attempts=attempts, on_text=on_text, watch=watch or guard, seconds=seconds
            )
            return result
        except BitnetError as error:
            if guard is not None:
                await guard.failed(ended(error))
            if self._server is not None and not self._server.alive():
                raise BitnetError(
                    "The embedded teacher's server ended in the middle of the work (often for lack of memory); "
                    "start the stage again, it resumes."
                ) from error
            raise
        finally:
            if guard is not None:
                await guard.answered(result)

    async def models(self) -> list[str]:
        return await self._chat.models()

    def sent(self, request: ChatRequest) -> Mapping[str, Any]:
        """The sampling that the request really asks for; see `Chat.sent`."""
        return self._chat.sent(request)

    def pin(self, upstream: str) -> None:
        """Behind a router, let this one answer alone from now on; without a name there is no router."""
        if isinstance(self._chat, HttpChat):
            self._chat.upstream = upstream

    def memory_bytes(self) -> int | None:
        """Resident bytes that loading and running the model added; None for one that is not ours."""
        return self._memory() if self._memory else None


@dataclass(frozen=True)
class Identity:
    """Which teacher the settings name; known without opening it."""

    provider: Provider
    model: str
    base_url: str
    """Empty for the embedded teacher, whose address is another one each time."""
    own: bool = True
    """Whether it is the teacher of the settings, and not another provider of the user's choice."""

    @property
    def origin(self) -> str:
        """What makes its answers its own: the address, or the hash of the model's files."""
        if self.provider.wire == "transformers":
            return origin(self.model)
        return self.base_url or f"embedded:{GGUF_SHA256}"


def identify(settings: Settings) -> Identity:
    """The teacher of TEACHER_PROVIDER, or else PROVIDER. BitnetError when its model or address is not set."""
    return identify_as(settings, settings.text("TEACHER_PROVIDER") or settings.text("PROVIDER"))


def identify_as(settings: Settings, name: str, model: str = "", *, need_model: bool = True) -> Identity:
    """As `identify`, of a provider of one's choice; what is set for the teacher counts where it is the teacher."""
    provider = profile(name)
    if provider.name == "embedded":
        return Identity(provider, embedded.MODEL_NAME, "")
    own = name == (settings.text("TEACHER_PROVIDER") or settings.text("PROVIDER"))
    model = model or (settings.text("TEACHER_MODEL") if own else "") or settings.text(provider.model_setting)
    if not model and (need_model or provider.wire == "transformers"):
        fix = f"TEACHER_MODEL (or {provider.model_setting})" if own else provider.model_setting
        raise BitnetError(f"No model is set for {provider.name}; set {fix}.")
    if provider.wire == "transformers":
        return Identity(provider, model, "", own)
    given = (settings.text("TEACHER_BASE_URL") if own else "") or settings.text(provider.base_url_setting)
    base_url = given or provider.base_url
    if not base_url:
        raise BitnetError(f"No address is set for {provider.name}; set {provider.base_url_setting} to its base URL.")
    return Identity(provider, model, base_url.rstrip("/"), own)


def secret_names(identity: Identity) -> tuple[str, ...]:
    """The settings that may hold its key, the one that counts first."""
    if identity.provider.name == "embedded":
        return ()
    return (("TEACHER_API_KEY",) if identity.own else ()) + (identity.provider.key_setting,)


@contextlib.asynccontextmanager
async def open_teacher(
    ctx: Host,
    *,
    device: Callable[[DeviceOptions], Any],
    identity: Identity | None = None,
    parallel: int = 1,
    waiting: int = 0,
    context: int | None = None,
    table: TokenTable | None = None,
) -> AsyncIterator[Teacher]:
    """The teacher of `ctx.settings`, ready to answer `parallel` requests at once, with `waiting` more in its queue.

    `device` chooses where a model that runs in this process goes.
    `context` is what the stage needs for all of them together; TEACHER_CTX_LEN is the most a single one
    gets. BitnetError for a missing key, model or address, and for what `ensure_files` and the server say.
    """
    settings = ctx.settings
    identity = identity or identify(settings)
    provider, model, base_url = identity.provider, identity.model, identity.base_url

    told: dict[str, float] = {}

    def on_retry(reason: str, wait: float | None) -> None:
        now = time.monotonic()
        if now - told.get(reason, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return
        told[reason] = now
        code = "rate_limited" if reason == "rate limited" else "retrying"
        soon = "soon" if wait is None else f"in {wait:.0f} s, as it asks"
        ctx.alert("warning", code, f"{provider.name}: {reason}; trying again {soon}.", "Nothing to do.")

    pace = Pace(parallel + waiting)
    if provider.name == "embedded":
        limit = min(settings.int("TEACHER_CTX_LEN"), embedded.MAX_CONTEXT)
        needed = limit * parallel if context is None else min(context, limit * parallel)
        files = await _beside(lambda: embedded.ensure_files(fetch_progress(ctx)))
        size = max(-(-needed // _LEAST_CONTEXT) * _LEAST_CONTEXT, _LEAST_CONTEXT)
        server = embedded.EmbeddedServer(files.gguf, parallel=parallel, context=size)
        try:
            await _beside(server.start)
            chat: HttpChat = OpenAIChat(
                provider,
                server.base_url,
                model,
                server.api_key,
                connections=parallel + waiting,
                on_retry=on_retry,
                pace=pace,
                table=table,
            )
            async with chat:
                yield Teacher(chat, server, pace)
        finally:
            server.close()
        return
    key = next((found for name in secret_names(identity) if (found := ctx.secret(name))), None)
    if key is None and provider.needs_key:
        raise missing_key(provider, own=identity.own)
    if provider.wire == "transformers":
        ctx.progress(0, None, "models", f"loading {model}")

        def load() -> tuple[Any, Any]:
            heavy = [importlib.import_module(f"bitnet_core.teachers.hf.{name}") for name in ("model", "chat")]
            return heavy[1].TransformersChat, heavy[0].load(model, settings, device(DeviceOptions.of(settings)), key)

        kind, loaded = await _beside(load)
        async with kind(provider, model, loaded, parallel=parallel, table=table) as local:
            yield Teacher(local, memory=local.memory)
        return
    chat = WIRES[provider.wire](
        provider,
        base_url,
        model,
        key,
        connections=parallel,
        on_retry=on_retry,
        pace=pace,
        table=table,
        own=identity.own,
    )
    async with chat:
        yield Teacher(chat, None, pace)


async def _beside(work: Callable[[], _T]) -> _T:
    """As `asyncio.to_thread`, but whoever is cancelled ends soon: the work may take minutes, and sees no signal.

    Work that asks `check_stop` cleans up; what does not hear it ends with the process.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_T] = loop.create_future()

    def settle(result: _T | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - it belongs to who waits
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return await done
    except asyncio.CancelledError:
        thread.join(_CLEANING_SECONDS)
        raise


def fetch_model(ctx: Host, identity: Identity) -> None:
    """Have the files of a model that runs in this process, so that `Identity.origin` can be told without a key."""
    if identity.provider.wire == "transformers":
        key = next((found for name in secret_names(identity) if (found := ctx.secret(name))), None)
        locate(identity.model, key)


def fetch_progress(ctx: Host) -> embedded.Progress:
    """Show the fetching of the embedded teacher as the stage's progress; stops when the stage is stopped."""

    def report(label: str, done: int, total: int) -> None:
        ctx.check_stop()
        ctx.progress(done, total, "bytes" if total > 1 else "steps", label)

    return report
