"""An open teacher: one interface for a server, a hosted API and a model in this process.

A refusal that blames more than the prompt is believed only if a neutral request is refused in the same way.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, Unpack

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import BadReply, ChatResult
from bitnet_core.teachers.chat import CallOptions, Chat, ChatRequest, HttpChat
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.retries import Unreachable, Watch
from bitnet_core.teachers.neutral import few_tokens_seconds, is_neutral, neutral
from bitnet_core.teachers.refusals import (
    Failing,
    FieldRefused,
    PromptRefused,
    RefusesAll,
    SettingsRefused,
    failure_of,
)

_ATTEMPTS = 2
"""Of a neutral request."""


class Guard(Watch, Protocol):
    """A watch that also follows the end of the request."""

    async def answered(self, result: ChatResult | None) -> None:
        """Called at the end, with None if there was no usable answer."""


class Teacher:
    """An open teacher. `origin` is "embedded", or the address that serves it."""

    def __init__(
        self,
        chat: Chat,
        server: EmbeddedServer | None = None,
        pace: Pace | None = None,
        memory: Callable[[], int | None] | None = None,
    ) -> None:
        self._chat = chat
        self._server = server
        self._memory = server.memory if server else memory
        self.pace = pace
        self.answering = True
        """False during an outage; `TeacherHealth` finds out."""
        self.guard: Callable[[ChatRequest], Guard] | None = None
        """Makes the watch of each request that has none, so that probes are accounted for, too."""
        self.provider = chat.provider
        self.name = chat.provider.name
        self.model = chat.model
        self.origin = "embedded" if server else chat.base_url
        self._checking_field, self._checking_error = asyncio.Lock(), asyncio.Lock()
        """One refusal at a time is checked; the others that came with it wait for what is found."""
        self._refuses_all: type[RefusesAll] | None = None
        """What the last neutral request was refused for, until there is an answer."""

    async def chat(self, request: ChatRequest, **options: Unpack[CallOptions]) -> ChatResult:
        """Ask once; see `Chat.chat`. BitnetError if the embedded server has died.

        A sampling field that the server refuses is left out of this request, and of all others once this one is
        answered. PromptRefused if the server refuses this prompt alone, whatever it says about it.
        """
        try:
            return await self._ask_leaving_out(request, options)
        except RefusesAll as error:
            await _close(options, error)
            found = await self._checked(error, request)
            if found is error:
                raise
            raise found from error

    async def _ask_leaving_out(self, request: ChatRequest, options: CallOptions) -> ChatResult:
        """Ask, and ask again without the fields that are refused. Raises the refusal if it may be the prompt's."""
        refusal: FieldRefused
        try:
            return await self._ask(request, options)
        except FieldRefused as error:
            refusal = error
        left_out: frozenset[str] = frozenset()
        async with self._checking_field:
            while True:
                await _close(options, refusal)
                if refusal.field not in self.left_out and not await self._refuses_field(refusal, request, left_out):
                    raise refusal.of_prompt or refusal
                left_out |= {refusal.field}
                try:
                    result = await self._ask(request, {**options, "left_out": left_out})
                except FieldRefused as another:
                    if another.field in left_out:
                        raise
                    refusal = another
                else:
                    self.leave_out(left_out)
                    return result

    async def _refuses_field(self, refusal: FieldRefused, request: ChatRequest, left_out: frozenset[str]) -> bool:
        """Whether a neutral request is refused for the same field. A field that was accepted once is not tested."""
        if refusal.field in {name for name, _ in self._accepted}:
            return False
        if is_neutral(request):
            return True
        seconds = few_tokens_seconds(self.provider)
        try:
            await self._ask(neutral(request), {"attempts": _ATTEMPTS, "seconds": seconds, "left_out": left_out})
        except FieldRefused as again:
            return again.field == refusal.field
        except (BadReply, PromptRefused):
            return False
        return False

    async def _checked(self, error: RefusesAll, request: ChatRequest) -> BitnetError:
        """The refusal of a neutral request, or what `error` means if such a request is answered."""
        of_prompt = error.of_prompt
        if of_prompt is None or is_neutral(request):
            return error
        if isinstance(error, SettingsRefused) and self._accepted >= set(error.fields.items()):
            return of_prompt
        async with self._checking_error:
            if self._refuses_all is type(error):
                return error
            options: CallOptions = {"attempts": _ATTEMPTS}
            if isinstance(error, SettingsRefused) and "max_tokens" in error.fields:
                test = neutral(request, request.max_tokens)
            else:
                test, options["seconds"] = neutral(request), few_tokens_seconds(self.provider)
            try:
                await self._ask_leaving_out(test, options)
            except RefusesAll as again:
                self._refuses_all = type(again)
                return again
            except PromptRefused:
                return error
            except BadReply:
                return of_prompt
            return of_prompt

    async def fails_on(self, request: ChatRequest, error: Exception) -> bool:
        """Whether `error` is about this request alone; where a server kept failing, a neutral one shows it."""
        if not isinstance(error, Failing | Unreachable):
            return isinstance(error, BadReply | PromptRefused)
        try:
            seconds = few_tokens_seconds(self.provider)
            await self.chat(neutral(request), attempts=_ATTEMPTS, seconds=seconds)
        except BadReply as reply:
            return not reply.retryable
        except (PromptRefused, Failing, Unreachable):
            return False
        return True

    @property
    def _accepted(self) -> set[tuple[str, Any]]:
        return self._chat.accepted if isinstance(self._chat, HttpChat) else set()

    async def _ask(self, request: ChatRequest, options: CallOptions) -> ChatResult:
        """Send one request, with its account."""
        guard = self.guard(request) if options.get("watch") is None and self.guard is not None else None
        if guard is not None:
            options = {**options, "watch": guard}
        result: ChatResult | None = None
        try:
            result = await self._chat.chat(request, **options)
            self._refuses_all = None
            return result
        except BitnetError as error:
            if guard is not None:
                await guard.failed(failure_of(error))
            if self._server is not None and not self._server.alive():
                raise BitnetError(
                    "The embedded teacher's server died (often for lack of memory); "
                    "start the stage again, it resumes."
                ) from error
            raise
        finally:
            if guard is not None:
                await guard.answered(result)

    async def models(self) -> list[str]:
        return await self._chat.models()

    def requested_sampling(self, request: ChatRequest) -> Mapping[str, Any]:
        """The sampling that the request really asks for; see `Chat.requested_sampling`."""
        return self._chat.requested_sampling(request)

    def pin(self, upstream: str) -> None:
        """Behind a router, accept answers only from this provider from now on; an empty name accepts any."""
        if isinstance(self._chat, HttpChat):
            self._chat.upstream = upstream

    @property
    def left_out(self) -> frozenset[str]:
        """The sampling fields that the model has proved to refuse, so that they are not sent."""
        return self._chat.left_out if isinstance(self._chat, HttpChat) else frozenset()

    def leave_out(self, fields: Iterable[str]) -> None:
        """Don't send these sampling fields either, which the model refused in an earlier run."""
        if isinstance(self._chat, HttpChat):
            self._chat.left_out |= frozenset(fields)

    def send_neutral_values(self) -> None:
        """From now on send sampling fields whose value changes nothing, too."""
        if isinstance(self._chat, HttpChat):
            self._chat.explicit = True

    def send_again(self, field: str) -> None:
        """Send a field again that was left out."""
        if isinstance(self._chat, HttpChat):
            self._chat.left_out -= {field}

    @property
    def absurd_counts(self) -> int:
        """Answers with a count of tokens that the request can't have cost, and that was not believed."""
        return self._chat.absurd_counts if isinstance(self._chat, HttpChat) else 0

    def memory_bytes(self) -> int | None:
        """Resident bytes that loading and running the model added; None if it does not run on this machine."""
        return self._memory() if self._memory else None


async def _close(options: CallOptions, error: BitnetError) -> None:
    """Close the account of a refused request: a neutral request may have to wait for what it has reserved."""
    watch = options.get("watch")
    if watch is not None:
        await watch.failed(failure_of(error))
