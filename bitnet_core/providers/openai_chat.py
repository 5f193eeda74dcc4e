"""Chat with any OpenAI-compatible server, and say in one sentence what is wrong when it can't be done.

Uses `http` to send and `replies` to read. Knows no stage; a key is given to it and never shown.
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from bitnet_core.errors import BitnetError
from bitnet_core.providers.http import ATTEMPTS, READ_SECONDS, JsonClient, OnRetry, Reply
from bitnet_core.providers.replies import BadReply, ChatResult, parse_chat
from bitnet_core.providers.table import Provider, names_with_logprobs

_SHOWN = 200
_LOCAL_READ_SECONDS = 3600.0
"""An answer comes in one piece, and one's own machine may be slow: asking again would only make it slower."""
_CONTEXT_SIGNS = ("context_length", "context size", "exceed_context", "maximum context", "context window")
_LOGPROB_SIGNS = ("logprob",)


class ContextExceeded(BitnetError):
    """This one prompt is too long; others may do."""


class NoLogprobs(BitnetError):
    """The model gives no logprobs."""


class OpenAIChat:
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
    ) -> None:
        self.provider = provider
        self.model = model
        self.base_url = base_url
        self._key = key
        self._http = JsonClient(
            base_url,
            key,
            connections=connections,
            read_seconds=_LOCAL_READ_SECONDS if provider.local else READ_SECONDS,
            on_retry=on_retry,
            first_wait=first_wait,
        )

    async def __aenter__(self) -> "OpenAIChat":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_logprobs: int = 0,
        seed: int | None = None,
        attempts: int = ATTEMPTS,
    ) -> ChatResult:
        """Ask once. `top_logprobs` 0 asks for no logprobs.

        Raises BadReply for an answer that can't be used, ContextExceeded for a prompt that is too long,
        and BitnetError for what stops every request (key, model, address, quota).
        """
        payload = self.payload(messages, max_tokens, temperature, top_p, top_logprobs, seed)
        reply = await self._http.post("/chat/completions", payload, attempts=attempts)
        if reply.status != 200 or reply.error is not None:
            raise self._refusal(reply, top_logprobs)
        if reply.payload is None:
            raise BitnetError(
                f"{self.base_url} answers with {_kind(reply)} instead of JSON; "
                f"correct {self.provider.base_url_setting} or TEACHER_BASE_URL (it usually ends in /v1)."
            )
        return parse_chat(reply.payload, reply.body)

    def payload(
        self,
        messages: Sequence[Mapping[str, str]],
        max_tokens: int,
        temperature: float,
        top_p: float,
        top_logprobs: int,
        seed: int | None,
    ) -> dict[str, Any]:
        """The request's body: all that decides the answer, and what its key in the journal is made from."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [dict(message) for message in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "stream": False,
        }
        if top_logprobs > 0:
            body |= {"logprobs": True, "top_logprobs": top_logprobs}
        if seed is not None and self.provider.seeds:
            body["seed"] = seed
        if self.provider.name == "openrouter" and top_logprobs > 0:
            # Else it may route to an upstream that leaves the logprobs out without a word.
            body["provider"] = {"require_parameters": True}
        return body

    def _refusal(self, reply: Reply, top_logprobs: int) -> BitnetError:
        told = self._told(reply)
        low = told.lower()
        name = self.provider.name
        if reply.status in (401, 403):
            return key_refused(self.provider)
        if any(sign in low for sign in _CONTEXT_SIGNS):
            return ContextExceeded(
                f"{self.model} can't take a prompt this long ({told}); "
                "shorten it, lower the number of tokens or raise TEACHER_CTX_LEN."
            )
        if top_logprobs and any(sign in low for sign in _LOGPROB_SIGNS):
            return no_logprobs(name, self.model, told)
        if reply.status == 404:
            return BitnetError(
                f"{name} at {self.base_url} knows no model {self.model} ({told}); "
                f"correct TEACHER_MODEL or {self.provider.model_setting}."
            )
        if reply.status == 429:
            return BitnetError(f"{name} refuses more requests ({told}); wait or raise the quota, then start again.")
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


def key_refused(provider: Provider) -> BitnetError:
    return BitnetError(
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


__all__ = ["BadReply", "ChatResult", "ContextExceeded", "NoLogprobs", "OpenAIChat"]
