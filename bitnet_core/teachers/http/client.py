"""JSON over HTTP with retries and streams. It alone in `teachers` imports httpx and stamina, and knows no chats."""

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import stamina

from bitnet_core.errors import BitnetError
from bitnet_core.network.left_over import end_with_left_over
from bitnet_core.network.proxy import LOOPBACK, close_failed_tunnels, proxy_of, trusted, unusable_proxy
from bitnet_core.teachers.http.body import ACCEPTED, NotDecompressed
from bitnet_core.teachers.http.event_stream import event_data
from bitnet_core.teachers.http.in_flight import InFlight
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.payload import BYTES_A_VALUE_IN_EVENTS
from bitnet_core.teachers.http.received import chunks_of, reply_of
from bitnet_core.teachers.http.reply import Reply, wait_until_reset
from bitnet_core.teachers.http.retries import (
    ATTEMPTS,
    FailedAttempt,
    NoAnswerInTime,
    NoConnection,
    OnRetry,
    RefusedByProxy,
    RetryPolicy,
    StreamCut,
    Unreachable,
    Unreadable,
    Watch,
    no_connection,
)
from bitnet_core.text import flat

CONNECT_SECONDS = 10.0
READ_SECONDS = 120.0
WHOLE_SECONDS = 1200.0
REST_SECONDS = 30.0
"""How long a server may take to tell what an answer cost, once the answer is whole."""
MOST_BYTES = 1 << 24
"""Of a reply to a request that does not say how much it asks for, such as a list of models."""
QUICK_SECONDS = 60.0
"""For requests that are quick however slow the model is: a list of models, a single token."""
_LONGEST_BACKOFF = 30.0
_SHOWN = 200
_HUNG_UP = ("disconnected", "closed connection")
"""What httpx says of a server that ends a connection early; all else is about what it sent."""
_NO_ADDRESS = "location header"
"""In what httpx says of a redirect that it can't make a request of; not every such error is one of its own."""

_T = TypeVar("_T")

# Retries are reported through `on_retry`; stamina would also log warnings to the terminal.
stamina.instrumentation.set_on_retry_hooks([])


class JsonClient:
    """An async client for one address. `headers` carry the key and never appear in a message.

    It keeps no cookies: a request does not depend on those before it, nor grow with them.
    """

    def __init__(
        self,
        base_url: str,
        headers: Mapping[str, str] | None = None,
        *,
        read_seconds: float = READ_SECONDS,
        whole_seconds: float = WHOLE_SECONDS,
        on_retry: OnRetry | None = None,
        first_wait: float = 0.5,
        pace: Pace | None = None,
    ) -> None:
        """`read_seconds` limits the silence within an attempt, `whole_seconds` the whole attempt."""
        self.base_url = base_url.rstrip("/")
        host = _host(self.base_url)
        if any(not (value.isascii() and value.isprintable()) for value in (headers or {}).values()):
            raise BitnetError(f"The key for {self.base_url} contains characters that no key has; enter it again.")
        self.pace = pace or Pace()
        self._in_flight = InFlight()
        self._read_seconds = read_seconds
        self._whole_seconds = whole_seconds
        self._on_retry = on_retry
        self._first_wait = first_wait
        try:
            self._client = httpx.AsyncClient(
                headers={"Accept-Encoding": ACCEPTED, **(headers or {})},
                timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS, pool=None),
                limits=httpx.Limits(max_connections=self.pace.most, max_keepalive_connections=self.pace.most),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
                trust_env=host not in LOOPBACK,
                # Reading every authority takes 20 ms, and no redirect leads from http to https.
                verify=(
                    trusted(httpx.create_ssl_context)
                    if urlsplit(self.base_url).scheme == "https"
                    else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                ),
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise unusable_proxy(error) from error
        close_failed_tunnels(self._client)
        self._proxy = proxy_of(self.base_url)

    async def __aenter__(self) -> "JsonClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._client.aclose()

    async def post(
        self,
        path: str,
        payload: Mapping[str, Any],
        *,
        attempts: int = ATTEMPTS,
        watch: Watch | None = None,
        seconds: float | None = None,
        most_bytes: int = MOST_BYTES,
        held: contextlib.ExitStack | None = None,
    ) -> Reply:
        """Send JSON and return the last reply, whatever its status.

        Retried: 408, 409, 429 (unless a quota is spent), 5xx, the same codes in the body of a status 200, a body that
        is not JSON, and a broken transport. `watch` follows each attempt; `seconds` limits the duration of one.
        A good reply counts as in flight until `held` is closed.
        Raises Unreachable when no attempt brought a reply, and TooManyBytes for one of more than `most_bytes`.
        """
        return await self.send_with_retries(
            lambda: self._send("POST", path, payload, seconds, most_bytes, held), attempts, watch
        )

    async def get(self, path: str) -> Reply:
        """Like `post`, for what a server answers quickly to a person who waits. Asked once, also after a 429."""
        try:
            return await self._attempt(lambda: self._send("GET", path, None, QUICK_SECONDS, MOST_BYTES), None)
        except FailedAttempt as failure:
            return self._reply_of(failure)

    async def stream(
        self,
        path: str,
        payload: Mapping[str, Any],
        on_event: Callable[[str], bool],
        *,
        attempts: int = ATTEMPTS,
        watch: Watch | None = None,
        seconds: float | None = None,
        most_bytes: int = MOST_BYTES,
        is_whole: Callable[[], bool] = lambda: False,
    ) -> Reply | None:
        """Call `on_event` with the data of each server-sent event, until it returns True or the stream has ended.

        Returns None, or the reply if the server refuses or does not stream. `on_event` may raise FailedAttempt.
        Failures before the first event are retried as in `post`; after it they raise StreamCut. Once `is_whole` says
        that no more than figures can follow, the stream may break, and REST_SECONDS without an event end it.
        """
        whole = self._whole_seconds if seconds is None else seconds
        return await self.send_with_retries(
            lambda: self._streamed(path, payload, on_event, whole, most_bytes, is_whole), attempts, watch
        )

    async def send_with_retries(
        self, send: Callable[[], Awaitable[_T]], attempts: int, watch: Watch | None = None
    ) -> _T | Reply:
        """What `send` returns, or else the reply of the last failed attempt. Raises Unreachable if it had none."""
        policy = RetryPolicy(attempts)

        def next_wait(error: Exception) -> bool | dt.timedelta:
            if not isinstance(error, FailedAttempt) or not policy.allows_another(error):
                return False
            if self._on_retry is not None:
                self._on_retry(error)
            if error.rate_limited:  # the pace makes all requests wait, this one included
                return dt.timedelta(0)
            return True if error.wait is None else dt.timedelta(seconds=error.wait)

        try:
            async for attempt in stamina.retry_context(
                on=next_wait,
                attempts=None,
                timeout=None,
                wait_initial=self._first_wait,
                wait_max=_LONGEST_BACKOFF,
                wait_jitter=self._first_wait,
            ):
                with attempt:
                    return await self._attempt(send, watch)
        except FailedAttempt as failure:
            return self._reply_of(failure)
        raise AssertionError("stamina ends with a result or with the last error")

    def _reply_of(self, failure: FailedAttempt) -> Reply:
        """The reply of the last attempt. Raises Unreachable if it brought none."""
        if failure.reply is not None:
            return failure.reply
        raise Unreachable(f"{self.base_url} {failure.told(self._proxy)}.") from None

    async def _attempt(self, send: Callable[[], Awaitable[_T]], watch: Watch | None) -> _T:
        async with self.pace.turn() as turn:
            if watch is not None:
                await watch.sent()
            try:
                found = await send()
            except FailedAttempt as failure:
                if watch is not None:
                    await watch.failed(failure.how)
                if failure.rate_limited:
                    self.pace.refused(turn, failure.wait)
                elif failure.wait is not None:
                    self.pace.pause(failure.wait)
                raise
            self.pace.answered(turn)
            return found

    async def _send(
        self,
        method: str,
        path: str,
        payload: Mapping[str, Any] | None,
        seconds: float | None,
        most_bytes: int,
        held: contextlib.ExitStack | None = None,
    ) -> Reply:
        whole = self._whole_seconds if seconds is None else seconds
        # An answer that is not streamed arrives only when all of it has been generated.
        read = self._read_seconds if seconds is None else max(seconds, self._read_seconds)
        with _failures_explained(whole, read):
            async with (
                asyncio.timeout(whole),
                self._response(method, path, payload, read) as response,
                self._in_flight.share() as share,
            ):
                reply = self._checked(await reply_of(response, share, most_bytes, payload))
                if held is not None and reply.status == 200 and reply.error is None:
                    share.keep(held)
                return reply

    @contextlib.asynccontextmanager
    async def _response(
        self, method: str, path: str, payload: Mapping[str, Any] | None, read_seconds: float
    ) -> AsyncIterator[httpx.Response]:
        """The response, once its headers have arrived. An interim one, such as `100 Continue`, does not count."""
        limits = httpx.Timeout(read_seconds, connect=CONNECT_SECONDS, pool=None)
        try:
            request = self._client.build_request(method, self.base_url + path, json=payload, timeout=limits)
        except (httpx.InvalidURL, UnicodeEncodeError):
            raise BitnetError(
                f"{flat(self.base_url + path)[:_SHOWN]} is not an address that can be asked; "
                "correct the address or the model."
            ) from None
        try:
            async with asyncio.timeout(CONNECT_SECONDS + read_seconds):
                response = await self._client.send(request, stream=True)
        except TimeoutError as error:
            raise NoAnswerInTime(f"no answer within {read_seconds:.0f} s") from error
        except (httpx.InvalidURL, UnicodeError) as error:  # httpx makes a request of it, though it is not followed
            raise Unreadable("it redirects to what is no address") from error
        try:
            yield response
        finally:
            end_with_left_over(response.stream)
            await response.aclose()

    async def _streamed(
        self,
        path: str,
        payload: Mapping[str, Any],
        on_event: Callable[[str], bool],
        whole: float,
        most_bytes: int,
        is_whole: Callable[[], bool],
    ) -> Reply | None:
        begun, now = False, asyncio.get_running_loop().time
        end = now() + whole
        try:
            with _failures_explained(whole, self._read_seconds):
                async with (
                    asyncio.timeout_at(end) as limit,
                    self._response("POST", path, payload, self._read_seconds) as response,
                    self._in_flight.share() as share,
                ):
                    kind = response.headers.get("content-type", "").lower()
                    if not response.is_success or "event-stream" not in kind:
                        return self._checked(await reply_of(response, share, most_bytes, payload))
                    self.apply_rate_limit_headers(response.headers)
                    most_values = most_bytes // BYTES_A_VALUE_IN_EVENTS
                    async for data in event_data(chunks_of(response, share, most_bytes, most_values)):
                        ended = on_event(data.decode("utf-8", errors="replace"))
                        begun = True
                        if ended:
                            break
                        rest = now() + REST_SECONDS if is_whole() else end
                        limit.reschedule(min(rest, end))
                    return None
        except FailedAttempt as failure:
            if failure.reply is None and is_whole():
                return None
            if begun:
                said = failure.reply.words() if failure.reply else ""
                raise StreamCut(f"{failure.reason}: {said}"[:_SHOWN] if said else failure.reason) from failure
            raise

    def _checked(self, reply: Reply) -> Reply:
        """The reply. Raises FailedAttempt for one that is worth a retry."""
        self.apply_rate_limit_headers(reply.headers)
        if reply.code == 407 and self._proxy is not None:
            raise RefusedByProxy(reply.code)
        if reply.retryable:
            raise FailedAttempt.of(reply)
        return reply

    def apply_rate_limit_headers(self, headers: Mapping[str, str]) -> None:
        """Pause all requests while the headers say that nothing remains, instead of collecting refusals."""
        if (wait := wait_until_reset(headers)) > 0:
            self.pace.pause(wait)


@contextlib.contextmanager
def _failures_explained(whole_seconds: float, read_seconds: float) -> Iterator[None]:
    """Turn timeouts and httpx's exceptions into FailedAttempt."""
    try:
        yield
    except TimeoutError as error:
        raise NoAnswerInTime(f"no complete answer within {whole_seconds:.0f} s") from error
    except httpx.ReadTimeout as error:
        raise NoAnswerInTime(f"no answer within {read_seconds:.0f} s") from error
    except httpx.ConnectTimeout as error:
        raise NoConnection(f"no connection within {CONNECT_SECONDS:.0f} s") from error
    except (httpx.ConnectError, httpx.ProxyError) as error:
        raise no_connection(error) from error
    except httpx.TransportError as error:
        if _NO_ADDRESS in str(error):
            raise Unreadable("it redirects to what is no address") from error
        broke = not isinstance(error, httpx.RemoteProtocolError) or any(words in str(error) for words in _HUNG_UP)
        raise FailedAttempt("the connection broke") if broke else Unreadable("it does not speak HTTP") from error
    except NotDecompressed as error:
        raise Unreadable(str(error)) from error


def _host(base_url: str) -> str:
    """The host of an address. BitnetError if it is not an address."""
    with contextlib.suppress(ValueError, httpx.InvalidURL):
        parts = urlsplit(base_url)
        # A bad port is noticed only when it is read.
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            httpx.URL(base_url)
            return parts.hostname
    raise BitnetError(f"{base_url or 'An empty address'} is not an http(s) address; correct it.")
