"""JSON over HTTP with retries and streams: the only module that imports httpx. It must not know what a chat is."""

import asyncio
import contextlib
import datetime as dt
import email.utils
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from enum import Enum
from types import TracebackType
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx
import stamina

from bitnet_core.errors import BitnetError
from bitnet_core.teachers.answers.json_body import decode
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.reply import Reply

CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
WHOLE_SECONDS = 1200.0
QUICK_SECONDS = 60.0
"""For what takes no server long, however slow its model is: a list, a single token."""
ATTEMPTS = 6
_REFUSALS = 60
"""A rate limit is no failure: waiting for it is not counted among the attempts, but it has an end."""
_REFUSED_SECONDS = 900.0
"""So long one request is refused, without the waits that the server asks for."""
_LATE = 3
"""So often an answer may fail to come in its time: each may have been made all the same, and be paid for."""
_LONGEST_WAIT = 3600.0
_LEAST_REST = 0.1
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_REMAINING = ("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining", "x-ratelimit-remaining")
_RESET = ("x-ratelimit-reset-requests", "anthropic-ratelimit-requests-reset", "x-ratelimit-reset")
_TOKENS_LEFT = ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining")
_TOKENS_RESET = ("x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_EPOCH, _EPOCH_MS = 1e9, 1e11
_LINE_END = re.compile(rb"\r\n|\n|\r")

_T = TypeVar("_T")


class Failure(Enum):
    """How a sending came to nothing."""

    UNSENT = "unsent"
    """There was no connection: it never left."""
    REFUSED = "refused"
    """The server said no before it did anything."""
    BROKEN = "broken"
    """An answer may have been made, and be billed."""


class Watch(Protocol):
    """Told of each sending of one request: before it, and after one that brought nothing to keep."""

    async def sent(self) -> None: ...

    async def failed(self, how: Failure) -> None: ...


OnRetry = Callable[[str, float | None], None]
"""Called with (why, seconds until the next attempt)."""


# A retry is told through `on_retry`; stamina's own warnings would go to the terminal.
stamina.instrumentation.set_on_retry_hooks([])


class Unreachable(BitnetError):
    """No answer from the address at all."""


class Late(Unreachable):
    """No answer in its time, several times."""


class StreamCut(Exception):
    """A stream of events broke after it had begun."""


class Passing(Exception):
    """An event of a stream is an error that may not come again."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"HTTP {reply.code}")
        self.reply = reply


class _Again(Exception):
    """Worth another attempt; `wait` is what the server asked for."""

    def __init__(self, reply: Reply | None, reason: str, wait: float | None, *, unsent: bool = False) -> None:
        super().__init__(reason)
        self.reply = reply
        self.reason = reason
        self.wait = wait
        self._unsent = unsent

    @property
    def limited(self) -> bool:
        return self.reply is not None and self.reply.code == 429

    @property
    def how(self) -> Failure:
        if self.reply is None:
            return Failure.UNSENT if self._unsent else Failure.BROKEN
        return Failure.REFUSED if self.reply.refused else Failure.BROKEN


class _Late(_Again):
    """Nothing came in time."""


class JsonClient:
    """An async client of one address. `headers` carry the key, and are shown nowhere."""

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str] | None = None,
        *,
        connections: int = 64,
        read_seconds: float = READ_SECONDS,
        whole_seconds: float = WHOLE_SECONDS,
        on_retry: OnRetry | None = None,
        first_wait: float = 0.5,
        pace: Pace | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        host = _host(self.base_url)
        if any(not (value.isascii() and value.isprintable()) for value in (headers or {}).values()):
            raise BitnetError(f"The key for {self.base_url} holds characters that no key has; enter it again.")
        self.pace = pace or Pace(connections)
        self._read_seconds = read_seconds
        self._whole_seconds = whole_seconds
        self._on_retry = on_retry
        self._first_wait = first_wait
        self._client = httpx.AsyncClient(
            headers=dict(headers or {}),
            timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            # A proxy set for the outside world has no business between us and our own machine.
            trust_env=host not in _LOOPBACK,
        )

    async def __aenter__(self) -> "JsonClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def post(
        self,
        path: str,
        payload: Mapping[str, Any],
        *,
        attempts: int = ATTEMPTS,
        watch: Watch | None = None,
        seconds: float | None = None,
    ) -> Reply:
        """Send JSON, retrying what may pass: 408, 409, 429 (not a spent quota), 5xx, also where the body alone says
        so, a body that is no JSON, and a broken transport.

        Returns the last reply, of whatever status; `watch` is told of each sending; an attempt takes `seconds` at
        most, where that is given. Unreachable when no attempt got a reply.
        """
        return await self._tried(lambda: self._once("POST", path, payload, seconds), attempts, watch)

    async def get(self, path: str, *, attempts: int = 2) -> Reply:
        """As `post`, for what is only read, and quickly."""
        return await self._tried(lambda: self._once("GET", path, None, QUICK_SECONDS), attempts, None)

    async def stream(
        self,
        path: str,
        payload: Mapping[str, Any],
        on_event: Callable[[str], None],
        *,
        attempts: int = ATTEMPTS,
        watch: Watch | None = None,
    ) -> Reply | None:
        """Call `on_event` with the data of each server-sent event, which may raise Passing; None at the stream's end.

        Returns the reply instead where the server refuses or does not stream. What breaks before the first event
        is tried again like a `post`; StreamCut for what breaks after.
        """

        async def once() -> Reply | None:
            return await self._once_streamed(path, payload, on_event)

        return await self._tried(once, attempts, watch)

    async def _tried(self, once: Callable[[], Awaitable[_T]], attempts: int, watch: Watch | None) -> _T | Reply:
        failures = refusals = late = 0
        deadline: float | None = None  # of being refused, from the first refusal on

        def backoff(error: Exception) -> bool | dt.timedelta:
            nonlocal failures, refusals, late, deadline
            if not isinstance(error, _Again):
                return False
            refusals += error.limited
            failures += not error.limited
            late += isinstance(error, _Late)
            if error.limited:
                deadline = time.monotonic() + _REFUSED_SECONDS if deadline is None else deadline
                deadline += error.wait or 0.0
                if refusals >= _REFUSALS or time.monotonic() >= deadline:
                    return False
            more = failures < attempts and late < _LATE
            if more and self._on_retry is not None:
                self._on_retry(error.reason, error.wait)
            if not more:
                return False
            if error.limited:  # the pace holds all back, this one among them
                return dt.timedelta(0)
            return True if error.wait is None else dt.timedelta(seconds=error.wait)

        tries = stamina.retry_context(
            on=backoff,
            attempts=None,
            timeout=None,
            wait_initial=self._first_wait,
            wait_max=30.0,
            wait_jitter=self._first_wait,
        )
        try:
            async for attempt in tries:
                with attempt:
                    async with self.pace.turn() as turn:
                        if watch is not None:
                            await watch.sent()
                        try:
                            found = await once()
                        except _Again as again:
                            if watch is not None:
                                await watch.failed(again.how)
                            if again.limited:
                                self.pace.refused(turn, max(again.wait or 0.0, _LEAST_REST))
                            elif again.wait is not None:
                                self.pace.pause(again.wait)
                            raise
                        self.pace.answered(turn)
                        return found
        except _Again as failure:
            if failure.reply is not None:
                return failure.reply
            kind = Late if isinstance(failure, _Late) else Unreachable
            raise kind(
                f"{self.base_url} can't be reached ({failure.reason}); "
                "check the address, the network and that the server runs."
            ) from None
        raise AssertionError("stamina ends with a result or the last error")

    async def _once(self, method: str, path: str, payload: Mapping[str, Any] | None, seconds: float | None) -> Reply:
        whole = self._whole_seconds if seconds is None else seconds
        # An answer in one piece comes when all of it is made.
        read = self._read_seconds if seconds is None else max(seconds, self._read_seconds)
        limits = httpx.Timeout(read, connect=CONNECT_SECONDS, pool=None)
        with self._explained(whole, read):
            async with asyncio.timeout(whole):
                response = await self._client.request(method, self.base_url + path, json=payload, timeout=limits)
                return self._judged(await _reply(response))

    async def _once_streamed(
        self, path: str, payload: Mapping[str, Any], on_event: Callable[[str], None]
    ) -> Reply | None:
        begun = False
        try:
            with self._explained(self._whole_seconds, self._read_seconds):
                async with (
                    asyncio.timeout(self._whole_seconds),
                    self._client.stream("POST", self.base_url + path, json=payload) as response,
                ):
                    kind = response.headers.get("content-type", "")
                    if response.status_code != 200 or "event-stream" not in kind:
                        await response.aread()
                        return self._judged(await _reply(response))
                    self._heed(response.headers)
                    async for data in _events(response):
                        try:
                            on_event(data)
                        except Passing as error:
                            raise _Again(error.reply, str(error), _asked_wait(error.reply)) from error
                        begun = True
                    return None
        except _Again as error:
            if begun:
                raise StreamCut(error.reason) from error
            raise

    @contextlib.contextmanager
    def _explained(self, whole_seconds: float, read_seconds: float) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise _Late(None, f"no whole answer within {whole_seconds:.0f} s", None) from error
        except httpx.ReadTimeout as error:
            raise _Late(None, f"no answer within {read_seconds:.0f} s", None) from error
        except httpx.TransportError as error:
            unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            raise _Again(None, _plain(error), None, unsent=unsent) from error
        except httpx.DecodingError as error:
            raise _Again(None, "the answer can't be unpacked", None) from error

    def _judged(self, reply: Reply) -> Reply:
        """The reply, or _Again for one that may be another the next time."""
        self._heed(reply.headers)
        if reply.passing:
            told = f"HTTP {reply.code}" if reply.code != 200 else f"{reply.kind} instead of JSON"
            raise _Again(reply, "rate limited" if reply.code == 429 else told, _asked_wait(reply))
        return reply

    def _heed(self, headers: Mapping[str, str]) -> None:
        """Where the server counts down and has reached zero, nobody needs a refusal to know it."""
        for left, reset in ((_REMAINING, _RESET), (_TOKENS_LEFT, _TOKENS_RESET)):
            if _first(headers, left).strip() in ("0", "0.0"):
                wait = _until(_first(headers, reset))
                if wait is not None:
                    self.pace.pause(min(wait, _LONGEST_WAIT))


def _plain(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:.0f} s"
    if isinstance(error, httpx.ConnectError):
        return "connection refused" if "refused" in str(error).lower() else "no connection"
    return "the connection broke"


def _host(base_url: str) -> str:
    """The host of an address. BitnetError for what is none."""
    with contextlib.suppress(ValueError, httpx.InvalidURL):
        parts = urlsplit(base_url)
        # Reading the port is what tells a wrong one.
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            httpx.URL(base_url)
            return parts.hostname
    raise BitnetError(f"{base_url or 'An empty address'} is not an http(s) address; correct the base URL.")


async def _reply(response: httpx.Response) -> Reply:
    payload: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        # A long answer with its logprobs is a megabyte of JSON: parsed beside the loop.
        payload = await asyncio.to_thread(decode, response.content)
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, response.content, payload, headers.get("content-type", ""), headers)


async def _events(response: httpx.Response) -> AsyncIterator[str]:
    """The data of each server-sent event; several `data:` lines of one event are joined."""
    lines: list[str] = []
    async for line in _lines(response):
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" ").decode("utf-8", errors="replace"))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


async def _lines(response: httpx.Response) -> AsyncIterator[bytes]:
    """Lines as events have them, ended by LF, CR or both: what else Unicode calls a line end is text."""
    pending = b""
    async for chunk in response.aiter_bytes():
        pending += chunk
        held = pending[-1:] if pending.endswith(b"\r") else b""  # its LF may be on the way
        *lines, pending = _LINE_END.split(pending.removesuffix(held))
        pending += held
        for line in lines:
            yield line
    if pending:
        yield pending.removesuffix(b"\r")


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if name in headers), "")


def _until(text: str) -> float | None:
    """Seconds until a moment that servers write as seconds, `1m30s`, Unix time or a date; None for none."""
    text = text.strip()
    found: float | None = None
    if text and _DURATION.sub("", text) == "":
        found = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    else:
        with contextlib.suppress(ValueError):
            found = float(text)
            found = found / 1000 if found > _EPOCH_MS else found
            found = found - dt.datetime.now(dt.UTC).timestamp() if found > _EPOCH else found
    if found is None:
        for parse in (dt.datetime.fromisoformat, email.utils.parsedate_to_datetime):
            with contextlib.suppress(ValueError, TypeError):
                found = (parse(text) - dt.datetime.now(dt.UTC)).total_seconds()
                break
    return None if found is None or found != found else max(found, 0.0)


def _asked_wait(reply: Reply) -> float | None:
    """Seconds that the server asks for, within reason: Retry-After, or Google's RetryInfo in the body."""
    wait = _until(reply.headers.get("retry-after", ""))
    if wait is None:
        milliseconds = _until(reply.headers.get("retry-after-ms", ""))
        wait = None if milliseconds is None else milliseconds / 1000
    details = (reply.error or {}).get("details")
    for detail in details if wait is None and isinstance(details, list) else []:
        if isinstance(detail, dict) and "retryDelay" in detail:
            wait = _until(str(detail["retryDelay"]))
    return None if wait is None else min(wait, _LONGEST_WAIT)
