"""One face for every teacher that answers over HTTP; what differs between wire formats is in their own modules.

Says in one sentence what is wrong when a chat can't be had. Knows no stage; a key is given to it and never shown.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.answers.read import BadReply, ChatResult, checked, guarded
from bitnet_core.teachers.http.client import READ_SECONDS, WHOLE_SECONDS, JsonClient
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.reply import Reply
from bitnet_core.teachers.http.retries import ATTEMPTS, OnRetry, RetryableEvent, StreamCut, Unreachable, Watch
from bitnet_core.teachers.profiles import Provider
from bitnet_core.teachers.refusals import (
    ContextExceeded,
    Failing,
    KeyRefused,
    NoLogprobs,
    PromptRefused,
    QuotaSpent,
    SentRequest,
)
from bitnet_core.tokenizer.steps import TokenTable

_LOCAL_SECONDS = 3600.0
"""An answer may come in one piece, and one's own machine may be slow: asking again would only make it slower."""
_SLOWEST = 5.0
"""Tokens a second below which no hosted model is expected to write."""
_LONGEST_SECONDS = 4 * _LOCAL_SECONDS
_SAMPLING = ("temperature", "top_p", "topP", "seed")

OnText = Callable[[str], None]


@dataclass(frozen=True)
class ChatRequest:
    """All that decides an answer, besides who gives it. `top_logprobs` 0 asks for no logprobs."""

    messages: Sequence[Mapping[str, str]]
    max_tokens: int
    temperature: float
    top_p: float
    top_logprobs: int = 0
    seed: int | None = None


class Chat(Protocol):
    """What a teacher can be asked."""

    provider: Provider
    model: str
    base_url: str
    """Empty for a model in this process."""

    async def chat(
        self,
        request: ChatRequest,
        *,
        attempts: int = ATTEMPTS,
        on_text: OnText | None = None,
        watch: Watch | None = None,
        seconds: float | None = None,
    ) -> ChatResult:
        """Ask once. With `on_text` the answer is streamed and each piece of text goes there as it comes; else an
        attempt may be given so many `seconds`.

        Raises BadReply for an answer that can't be used, PromptRefused for a prompt that is not taken (its kind
        ContextExceeded for one that is too long), and another BitnetError for what stops every request (key, model,
        address, quota).
        """
        ...

    def sent(self, request: ChatRequest) -> Mapping[str, Any]:
        """The sampling that a request really asks for: what a model does not take is left out or changed."""
        ...

    async def models(self) -> list[str]:
        """Names of the models that the server has."""
        ...

    async def __aenter__(self) -> "Chat": ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Fold(ABC):
    """Puts the events of a stream together into the answer that would have come in one piece."""

    complete = False
    """Whether the server has said that nothing more comes."""

    @abstractmethod
    def add(self, event: Mapping[str, Any]) -> str:
        """Take one event; the text that it adds."""

    @abstractmethod
    def payload(self) -> dict[str, Any]:
        """The whole answer."""


class HttpChat(ABC):
    """One model at one address. Use as an async context manager; safe for concurrent requests."""

    def __init__(
        self,
        provider: Provider,
        base_url: str,
        model: str,
        key: str | None,
        *,
        connections: int = 64,
        on_retry: OnRetry | None = None,
        first_wait: float = 0.5,
        pace: Pace | None = None,
        table: TokenTable | None = None,
        own: bool = True,
    ) -> None:
        """`own`: whether it is the teacher of the settings, so that TEACHER_MODEL and the like count for it."""
        self.provider = provider
        self.model = model
        self.base_url = base_url
        self.table = TokenTable() if table is None else table
        self.upstream = ""
        """Behind a router: who alone may answer, once somebody has."""
        self._key = key
        self._own = own
        self._answered = False
        """Whether anything good came from the address, so that it is not the address that is wrong."""
        self._http = JsonClient(
            base_url,
            self.headers(key) if key else {},
            connections=connections,
            read_seconds=_LOCAL_SECONDS if provider.local else READ_SECONDS,
            whole_seconds=_LONGEST_SECONDS if provider.local else WHOLE_SECONDS,
            on_retry=on_retry,
            first_wait=first_wait,
            pace=pace,
        )

    async def __aenter__(self) -> "HttpChat":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    # -- what a wire format is ---------------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def headers(key: str) -> dict[str, str]:
        """How the key is sent."""

    @abstractmethod
    def path(self, *, stream: bool) -> str: ...

    @abstractmethod
    def payload(self, request: ChatRequest, *, stream: bool = False) -> dict[str, Any]:
        """The request's body."""

    @staticmethod
    @abstractmethod
    def interpret(payload: Any, body: bytes, table: TokenTable) -> ChatResult:
        """The result in a decoded body. Raises BadReply; for what is of no known shape it may raise anything."""

    @classmethod
    def interpret_body(cls, body: bytes, table: TokenTable) -> ChatResult:
        """As `interpret`, from a body as it came."""
        return cls.interpret(decode(body), body, table)

    @staticmethod
    @abstractmethod
    def fold() -> Fold: ...

    @abstractmethod
    async def models(self) -> list[str]: ...

    # -- reading -----------------------------------------------------------------------------------------

    @classmethod
    def parse(cls, payload: Any, body: bytes, table: TokenTable) -> ChatResult:
        """The result in a decoded body. Raises BadReply and nothing else."""
        return checked(lambda: cls.interpret(payload, body, table), body)

    @classmethod
    def read(cls, body: bytes, table: TokenTable) -> ChatResult:
        """As `parse`, from a body that was kept."""
        return checked(lambda: cls.interpret_body(body, table), body)

    # -- asking ------------------------------------------------------------------------------------------

    async def chat(
        self,
        request: ChatRequest,
        *,
        attempts: int = ATTEMPTS,
        on_text: OnText | None = None,
        watch: Watch | None = None,
        seconds: float | None = None,
    ) -> ChatResult:
        """See `Chat.chat`."""
        if on_text is not None:
            return await self._streamed(request, on_text, attempts, watch)
        path = self.path(stream=False)
        if seconds is None and not self.provider.local:
            seconds = min(READ_SECONDS + request.max_tokens / _SLOWEST, _LONGEST_SECONDS)
        reply = await self._http.post(path, self.payload(request), attempts=attempts, watch=watch, seconds=seconds)
        return self._result(reply, self._asked(path, request))

    def sent(self, request: ChatRequest) -> dict[str, Any]:
        """See `Chat.sent`."""
        payload = self.payload(request)
        fields = payload | payload.get("generationConfig", {})
        return {{"topP": "top_p"}.get(name, name): fields[name] for name in _SAMPLING if name in fields}

    async def _streamed(
        self, request: ChatRequest, on_text: OnText, attempts: int, watch: Watch | None
    ) -> ChatResult:
        fold = self.fold()
        path = self.path(stream=True)
        asked = self._asked(path, request)

        def on_event(data: str) -> None:
            if data.strip() == "[DONE]":
                return
            with guarded(data.encode()):
                event = json.loads(data)
            told = Reply(200, data.encode(), event)
            if told.error is not None:
                raise RetryableEvent(told) if told.retryable else asked.refusal(told)
            with guarded(data.encode()):
                text = fold.add(event) if isinstance(event, dict) else ""
            if text:
                on_text(text)

        payload = self.payload(request, stream=True)
        try:
            reply = await self._http.stream(path, payload, on_event, attempts=attempts, watch=watch)
        except StreamCut as error:
            raise BadReply("stream_cut", f"the answer broke off ({error})") from error
        if reply is not None:
            return self._result(reply, asked)
        if not fold.complete:
            raise BadReply("stream_cut", "the answer ended before the server said so")
        whole = fold.payload()
        return self._known(self.parse(whole, json.dumps(whole).encode(), self.table))

    def _result(self, reply: Reply, asked: SentRequest) -> ChatResult:
        self._require(reply, asked)
        return self._known(self.parse(reply.payload, reply.body, self.table))

    def _known(self, result: ChatResult) -> ChatResult:
        """The result, if it is of the one who was asked."""
        self._answered = True
        if self.upstream and result.upstream != self.upstream:
            raise BadReply(
                "other_upstream",
                f"{result.upstream or 'nobody by name'} answered instead of {self.upstream}",
                result.body,
            )
        return result

    async def _listed(self, path: str) -> Any:
        """The decoded answer to a GET; raises like `chat`."""
        reply = await self._http.get(path)
        self._require(reply, self._asked(path))
        return reply.payload

    def _require(self, reply: Reply, asked: SentRequest) -> None:
        if reply.status != 200 or reply.error is not None:
            raise asked.refusal(reply)
        if reply.payload is None:
            if self._answered:
                raise BadReply("not_json", f"the answer is {reply.body_kind} instead of JSON", reply.body)
            raise asked.not_json(reply)

    def _asked(self, path: str, request: ChatRequest | None = None) -> SentRequest:
        return SentRequest(
            self.provider,
            self.base_url,
            self.model,
            self._key,
            request.top_logprobs if request else 0,
            path,
            self._own,
        )


__all__ = [
    "BadReply",
    "Chat",
    "ChatRequest",
    "ChatResult",
    "ContextExceeded",
    "Failing",
    "Fold",
    "HttpChat",
    "KeyRefused",
    "NoLogprobs",
    "PromptRefused",
    "QuotaSpent",
    "Unreachable",
]
