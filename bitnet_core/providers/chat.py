"""One face for every teacher that answers over HTTP; what differs between wire formats is in their own modules.

Says in one sentence what is wrong when a chat can't be had. Knows no stage; a key is given to it and never shown.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

from bitnet_core.errors import BitnetError
from bitnet_core.json_decoding import decode
from bitnet_core.providers.http import (
    ATTEMPTS,
    READ_SECONDS,
    WHOLE_SECONDS,
    JsonClient,
    OnRetry,
    Reply,
    StreamCut,
    Unreachable,
    Watch,
)
from bitnet_core.providers.pace import Pace
from bitnet_core.providers.replies import BadReply, ChatResult
from bitnet_core.providers.table import Provider, names_with_logprobs
from bitnet_core.traces.steps import TokenTable

_SHOWN = 200
_LOCAL_SECONDS = 3600.0
"""An answer may come in one piece, and one's own machine may be slow: asking again would only make it slower."""
_CONTEXT_SIGNS = (
    *("context_length", "context size", "exceed_context", "maximum context", "context window"),
    *("prompt is too long", "input token count"),
)
_LOGPROB_SIGNS = ("logprob",)
_KEY_SIGNS = ("api key not valid", "api_key_invalid", "invalid api key")

OnText = Callable[[str], None]


class ContextExceeded(BitnetError):
    """This one prompt is too long; others may do."""


class NoLogprobs(BitnetError):
    """The model gives no logprobs."""


class QuotaSpent(BitnetError):
    """Waiting does not help; money or a higher limit does. What is there stays."""


class KeyRefused(BitnetError):
    """The server does not take the key."""


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
    ) -> ChatResult:
        """Ask once. With `on_text` the answer is streamed and each piece of text goes there as it comes.

        Raises BadReply for an answer that can't be used, ContextExceeded for a prompt that is too long, and
        BitnetError for what stops every request (key, model, address, quota).
        """
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
    ) -> None:
        self.provider = provider
        self.model = model
        self.base_url = base_url
        self.table = TokenTable() if table is None else table
        self._key = key
        self._http = JsonClient(
            base_url,
            self.headers(key) if key else {},
            connections=connections,
            read_seconds=_LOCAL_SECONDS if provider.local else READ_SECONDS,
            whole_seconds=4 * _LOCAL_SECONDS if provider.local else WHOLE_SECONDS,
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
    def parse(payload: Any, body: bytes, table: TokenTable) -> ChatResult:
        """The result in a decoded body. Raises BadReply."""

    @classmethod
    def read(cls, body: bytes, table: TokenTable) -> ChatResult:
        """As `parse`, from a body that was kept. ValueError for what is no JSON."""
        return cls.parse(decode(body), body, table)

    @abstractmethod
    def fold(self) -> Fold: ...

    @abstractmethod
    async def models(self) -> list[str]: ...

    # -- asking ------------------------------------------------------------------------------------------

    async def chat(
        self,
        request: ChatRequest,
        *,
        attempts: int = ATTEMPTS,
        on_text: OnText | None = None,
        watch: Watch | None = None,
    ) -> ChatResult:
        """See `Chat.chat`."""
        if on_text is not None:
            return await self._streamed(request, on_text, attempts, watch)
        payload = self.payload(request)
        reply = await self._http.post(self.path(stream=False), payload, attempts=attempts, watch=watch)
        return self._read(reply, request)

    async def _streamed(
        self, request: ChatRequest, on_text: OnText, attempts: int, watch: Watch | None
    ) -> ChatResult:
        fold = self.fold()

        def on_event(data: str) -> None:
            if data.strip() == "[DONE]":
                fold.complete = True
                return
            try:
                event = json.loads(data)
            except ValueError as error:
                raise BadReply("not_json", "an event of the stream is no JSON") from error
            told = Reply(200, data.encode(), event)
            if told.error is not None:
                raise self._refusal(told, request)
            text = fold.add(event) if isinstance(event, dict) else ""
            if text:
                on_text(text)

        payload = self.payload(request, stream=True)
        try:
            reply = await self._http.stream(self.path(stream=True), payload, on_event, attempts=attempts, watch=watch)
        except StreamCut as error:
            raise BadReply("stream_cut", f"the answer broke off ({error})") from error
        if reply is not None:
            return self._read(reply, request)
        if not fold.complete:
            raise BadReply("stream_cut", "the answer ended before the server said so")
        whole = fold.payload()
        return self.parse(whole, json.dumps(whole).encode(), self.table)

    def _read(self, reply: Reply, request: ChatRequest) -> ChatResult:
        if reply.status != 200 or reply.error is not None:
            raise self._refusal(reply, request)
        if reply.payload is None:
            raise self._no_json(reply)
        return self.parse(reply.payload, reply.body, self.table)

    async def _listed(self, path: str) -> Any:
        """The decoded answer to a GET; raises like `chat`."""
        reply = await self._http.get(path)
        if reply.status != 200 or reply.error is not None:
            raise self._refusal(reply, None)
        if reply.payload is None:
            raise self._no_json(reply)
        return reply.payload

    # -- what went wrong ---------------------------------------------------------------------------------

    def _no_json(self, reply: Reply) -> BitnetError:
        return BitnetError(
            f"{self.base_url} answers with {_kind(reply)} instead of JSON; "
            f"correct {self.provider.base_url_setting} or TEACHER_BASE_URL (it usually ends in /v1)."
        )

    def _refusal(self, reply: Reply, request: ChatRequest | None) -> BitnetError:
        told = self._told(reply)
        low = told.lower()
        name = self.provider.name
        if reply.quota_spent:
            return QuotaSpent(
                f"The quota at {name} is spent ({told}); raise it or add credit, then start again (it goes on)."
            )
        if reply.status in (401, 403) or any(sign in low for sign in _KEY_SIGNS):
            return key_refused(self.provider)
        if any(sign in low for sign in _CONTEXT_SIGNS):
            return ContextExceeded(
                f"{self.model} can't take a prompt this long ({told}); "
                "shorten it, lower the number of tokens or raise TEACHER_CTX_LEN."
            )
        if request is not None and request.top_logprobs and any(sign in low for sign in _LOGPROB_SIGNS):
            return no_logprobs(name, self.model, told)
        if reply.status == 404:
            return BitnetError(
                f"{name} at {self.base_url} knows no model {self.model} ({told}); "
                f"correct TEACHER_MODEL or {self.provider.model_setting}."
            )
        if reply.status == 429:
            return BitnetError(f"{name} refuses more requests ({told}); wait a while, then start again.")
        if reply.status >= 500:
            return BitnetError(f"{name} at {self.base_url} keeps failing ({told}); start again later.")
        return BitnetError(f"{name} at {self.base_url} refuses the request ({told}); correct the teacher's settings.")

    def _told(self, reply: Reply) -> str:
        """What the server says, short and without the key (some servers echo it)."""
        error = reply.error or {}
        parts = [str(error[field]) for field in ("message", "code", "type") if error.get(field)]
        text = " ".join(" ".join(parts[:1] + [part for part in parts[1:] if part not in parts[0]]).split())
        if self._key:
            text = text.replace(self._key, "***")
        text = text.rstrip(".")
        return f"HTTP {reply.status}" + (f": {text[:_SHOWN]}" if text else "")


def missing_key(provider: Provider) -> BitnetError:
    return BitnetError(
        f"There is no key for {provider.name}: set {provider.key_setting} in the environment or keep it in the OS "
        f"keyring with `bitnet keys set {provider.key_setting}`; TEACHER_PROVIDER=embedded needs none."
    )


def key_refused(provider: Provider) -> KeyRefused:
    return KeyRefused(
        f"{provider.name} refuses the key in {provider.key_setting} (or TEACHER_API_KEY); "
        f"set a valid one in the environment or with `bitnet keys set {provider.key_setting}`."
    )


def no_logprobs(provider_name: str, model: str, told: str = "") -> NoLogprobs:
    able = ", ".join(name for name in names_with_logprobs() if name != provider_name)
    because = f" ({told})" if told else ""
    return NoLogprobs(
        f"{provider_name} gives no logprobs for {model}{because}, and traces need them; "
        f"choose another model, or a TEACHER_PROVIDER that has them: {able}."
    )


def _kind(reply: Reply) -> str:
    start = reply.body[:200].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html")):
        return "a web page"
    return "an empty body" if not start else "something"


__all__ = [
    "BadReply",
    "Chat",
    "ChatRequest",
    "ChatResult",
    "ContextExceeded",
    "Fold",
    "HttpChat",
    "KeyRefused",
    "NoLogprobs",
    "QuotaSpent",
    "Unreachable",
]
