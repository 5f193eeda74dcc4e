"""JSON over HTTP with retries: the only module that imports httpx. It must not know what a chat is."""

import asyncio
import contextlib
import datetime as dt
import email.utils
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx
import stamina

from bitnet_core.errors import BitnetError

CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
ATTEMPTS = 6
_LONGEST_WAIT = 300.0
_RETRIED = frozenset({408, 409, 429})
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}

OnRetry = Callable[[str, float | None], None]
"""Called with (why, seconds until the next attempt)."""


class Unreachable(BitnetError):
    """No answer from the address at all."""


@dataclass(frozen=True)
class Reply:
    """One answer, whatever its status; `payload` is None when the body is no JSON."""

    status: int
    body: bytes
    payload: Any
    content_type: str

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The error object of an OpenAI-like body, also one sent with status 200."""
        if not isinstance(self.payload, dict):
            return None
        error = self.payload.get("error")
        if isinstance(error, dict):
            return error
        if isinstance(error, str):
            return {"message": error}
        if self.status >= 400 and isinstance(self.payload.get("message"), str):
            return self.payload
        return None


class _Again(Exception):
    """Worth another attempt; `wait` is what the server asked for."""

    def __init__(self, reply: Reply | None, reason: str, wait: float | None) -> None:
        super().__init__(reason)
        self.reply = reply
        self.reason = reason
        self.wait = wait


class JsonClient:
    """An async client of one address; `key` goes into the Authorization header and nowhere else."""

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        *,
        connections: int = 64,
        read_seconds: float = READ_SECONDS,
        on_retry: OnRetry | None = None,
        first_wait: float = 0.5,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BitnetError(f"{base_url or 'An empty address'} is not an http(s) address; correct the base URL.")
        if key is not None and not (key.isascii() and key.isprintable()):
            raise BitnetError(f"The key for {self.base_url} holds characters that no key has; enter it again.")
        self._read_seconds = read_seconds
        self._on_retry = on_retry
        self._first_wait = first_wait
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            # A proxy set for the outside world has no business between us and our own machine.
            trust_env=parts.hostname not in _LOOPBACK,
        )

    async def __aenter__(self) -> "JsonClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def post(self, path: str, payload: Mapping[str, Any], *, attempts: int = ATTEMPTS) -> Reply:
        """Send JSON, retrying what may pass: 408, 409, 429 (not a spent quota), 5xx and a broken transport.

        Returns the last reply, of whatever status. Unreachable when no attempt got one.
        """
        return await self._send("POST", path, payload, attempts)

    async def _send(self, method: str, path: str, payload: Mapping[str, Any], attempts: int) -> Reply:
        number = 0
        tries = stamina.retry_context(
            on=lambda error: self._backoff(error, more=number < attempts),
            attempts=attempts,
            timeout=None,
            wait_initial=self._first_wait,
            wait_max=30.0,
            wait_jitter=self._first_wait,
        )
        try:
            async for attempt in tries:
                number = attempt.num
                with attempt:
                    return await self._once(method, path, payload)
        except _Again as failure:
            if failure.reply is not None:
                return failure.reply
            raise Unreachable(
                f"{self.base_url} can't be reached ({failure.reason}); "
                "check the address, the network and that the server runs."
            ) from None
        raise AssertionError("stamina ends with a result or the last error")

    def _backoff(self, error: Exception, *, more: bool) -> bool | dt.timedelta:
        if not isinstance(error, _Again):
            return False
        if self._on_retry is not None and more:
            self._on_retry(error.reason, error.wait)
        return True if error.wait is None else dt.timedelta(seconds=error.wait)

    async def _once(self, method: str, path: str, payload: Mapping[str, Any]) -> Reply:
        try:
            response = await self._client.request(method, self.base_url + path, json=payload)
        except httpx.TransportError as error:
            raise _Again(None, self._plain(error), None) from error
        reply = await _reply(response)
        if (reply.status in _RETRIED or reply.status >= 500) and not _quota_spent(reply):
            wait = _asked_wait(response.headers)
            reason = "rate limited" if reply.status == 429 else f"HTTP {reply.status}"
            raise _Again(reply, reason, wait)
        return reply

    def _plain(self, error: httpx.TransportError) -> str:
        if isinstance(error, httpx.ConnectTimeout):
            return f"no connection within {CONNECT_SECONDS:.0f} s"
        if isinstance(error, httpx.ReadTimeout):
            return f"no answer within {self._read_seconds:.0f} s"
        if isinstance(error, httpx.ConnectError):
            return "connection refused" if "refused" in str(error).lower() else "no connection"
        return "the connection broke"


async def _reply(response: httpx.Response) -> Reply:
    payload: Any = None
    with contextlib.suppress(ValueError):
        # A long answer with its logprobs is a megabyte of JSON: parsed beside the loop.
        payload = await asyncio.to_thread(json.loads, response.content)
    kind = response.headers.get("content-type", "")
    return Reply(response.status_code, response.content, payload, kind)


def _quota_spent(reply: Reply) -> bool:
    """Waiting never brings a spent quota back, although it comes as 429 too."""
    error = reply.error or {}
    return "insufficient_quota" in (error.get("code"), error.get("type"))


def _asked_wait(headers: httpx.Headers) -> float | None:
    """Seconds of Retry-After (a number or a date), within reason."""
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = (email.utils.parsedate_to_datetime(text) - dt.datetime.now(dt.UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), _LONGEST_WAIT) if seconds == seconds else None
