"""Servers that send a byte now and then: the time-out of a read starts over with each, and so never ends.

A response must bring LEAST_BYTES, or its end, in each SECONDS. How long it takes to begin is the client's to bound.
Knows no HTTP client: those of httpx and urllib3 are passed in.
"""

import http.client
import io
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

SECONDS = 60.0
LEAST_BYTES = 1 << 14
Patience = Callable[[], float]
"""Gives the seconds to wait for a response since its request was sent; it is asked again while nothing comes."""
_LOOK_SECONDS, _LEAST_SECONDS = 1.0, 0.001


class Flow:
    """The bytes of a response and when they came."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Nothing has come yet of the next response."""
        self._since: float | None = None
        self._bytes = 0

    def take(self, count: int) -> None:
        """Note bytes that came. TimeoutError if they are too few for the time they took."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        self._bytes += count
        if self._bytes >= LEAST_BYTES:
            self._since, self._bytes = now, 0
        elif count and now - self._since > SECONDS:
            raise TimeoutError(f"fewer than {LEAST_BYTES} bytes in {SECONDS:.0f} s")


def bound_trickle(client: Any) -> None:
    """Let a synchronous client of httpx raise its ReadTimeout for a response that trickles, headers or body."""
    for transport in (client._transport, *client._mounts.values()):
        pool = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = _Backend(pool._network_backend)


class _Backend:
    """Opens the streams of httpcore."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def connect_tcp(self, *given: Any, **options: Any) -> "_Stream":
        return _Stream(self._given.connect_tcp(*given, **options))

    def connect_unix_socket(self, *given: Any, **options: Any) -> "_Stream":
        return _Stream(self._given.connect_unix_socket(*given, **options))

    def sleep(self, seconds: float) -> None:
        self._given.sleep(seconds)


class _Stream:
    """A connection of httpcore: after each write comes another response."""

    def __init__(self, given: Any) -> None:
        self._given = given
        self._flow = Flow()

    def read(self, max_bytes: int, timeout: float | Patience | None = None) -> bytes:
        given = self._given
        data: bytes = self._patient(max_bytes, timeout) if callable(timeout) else given.read(max_bytes, timeout)
        try:
            self._flow.take(len(data))
        except TimeoutError as error:
            raise self._late()(str(error)) from error
        return data

    def _late(self) -> type[Exception]:
        """httpcore's own error, which httpx knows; a library may bring a copy of both."""
        late: type[Exception] = sys.modules[type(self._given).__module__.partition(".")[0]].ReadTimeout
        return late

    def _patient(self, max_bytes: int, patience: Patience) -> Any:
        begun, late = time.monotonic(), self._late()
        while True:
            left = begun + patience() - time.monotonic()
            try:
                return self._given.read(max_bytes, min(max(left, _LEAST_SECONDS), _LOOK_SECONDS))
            except late:
                if left <= _LOOK_SECONDS:
                    raise

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._flow.begin()
        self._given.write(buffer, timeout)

    def start_tls(self, *given: Any, **options: Any) -> "_Stream":
        return _Stream(self._given.start_tls(*given, **options))

    def close(self) -> None:
        self._given.close()

    def get_extra_info(self, info: str) -> Any:
        return self._given.get_extra_info(info)


def bounded_pools(classes: Mapping[str, Any]) -> dict[str, Any]:
    """The pools of urllib3 by scheme, with time-outs for a response that trickles, headers or body."""
    return {scheme: _bounded_pool(pool) for scheme, pool in classes.items()}


def _bounded_pool(pool: Any) -> Any:
    connection = type("Bounded", (pool.ConnectionCls,), {"response_class": _Response})
    return type("Bounded", (pool,), {"ConnectionCls": connection})


class _Response(http.client.HTTPResponse):
    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.fp = io.BufferedReader(_Bytes(self.fp.detach()))


class _Bytes(io.RawIOBase):
    """The bytes of one response."""

    def __init__(self, given: io.RawIOBase) -> None:
        self._given = given
        self._flow = Flow()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        count: int | None = self._given.readinto(buffer)
        self._flow.take(count or 0)
        return count

    def fileno(self) -> int:
        return self._given.fileno()

    def close(self) -> None:
        self._given.close()
        super().close()
