"""An open teacher: one interface for a server, a hosted API and a model in this process."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, Unpack

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.result import ChatResult
from bitnet_core.teachers.chat import CallOptions, Chat, ChatRequest, HttpChat
from bitnet_core.teachers.embedded.server import EmbeddedServer
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.retries import Watch
from bitnet_core.teachers.refusals import failure_of


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
        self.guard: Callable[[ChatRequest], Guard] | None = None
        """Makes the watch of each request that has none, so that probes are accounted for, too."""
        self.provider = chat.provider
        self.name = chat.provider.name
        self.model = chat.model
        self.origin = "embedded" if server else chat.base_url

    async def chat(self, request: ChatRequest, **options: Unpack[CallOptions]) -> ChatResult:
        """Ask once; see `Chat.chat`. BitnetError if the embedded server has died."""
        guard = self.guard(request) if options.get("watch") is None and self.guard is not None else None
        if guard is not None:
            options["watch"] = guard
        result: ChatResult | None = None
        try:
            result = await self._chat.chat(request, **options)
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
        """The sampling fields that the model refuses, so that they are not sent."""
        return self._chat.left_out if isinstance(self._chat, HttpChat) else frozenset()

    def leave_out(self, fields: Iterable[str]) -> None:
        """Don't send these sampling fields either, which the model refused in an earlier run."""
        if isinstance(self._chat, HttpChat):
            self._chat.left_out |= frozenset(fields)

    def send_neutral_values(self) -> None:
        """From now on send sampling fields whose value changes nothing, too."""
        if isinstance(self._chat, HttpChat):
            self._chat.explicit = True

    def memory_bytes(self) -> int | None:
        """Resident bytes that loading and running the model added; None if it does not run on this machine."""
        return self._memory() if self._memory else None
