"""Connections whose request is not whole yet: a bounded number, of which the oldest give way to new ones.

So one that sends slowly, or nothing, keeps out nobody else: who asks at once is never the oldest.
"""

import asyncio
import contextlib
from collections.abc import Iterator

OF_AN_ADDRESS = 32
IN_ALL = 256


class Waiting:
    """The addresses of clients, and their connections in the order in which they came."""

    def __init__(self) -> None:
        self._open: dict[str, dict[asyncio.WriteTransport, None]] = {}

    @contextlib.contextmanager
    def kept(self, client: str, connection: asyncio.WriteTransport) -> Iterator[None]:
        """Count a connection as waiting; another one may be closed for it, and it for another one."""
        self._make_room(client)
        self._open.setdefault(client, {})[connection] = None
        try:
            yield
        finally:
            self._forget(client, connection)

    def _make_room(self, client: str) -> None:
        if len(self._open.get(client, ())) >= OF_AN_ADDRESS:
            self._close_oldest(client)
        elif sum(map(len, self._open.values())) >= IN_ALL:
            self._close_oldest(max(self._open, key=lambda one: len(self._open[one])))

    def _close_oldest(self, client: str) -> None:
        oldest = next(iter(self._open[client]))
        self._forget(client, oldest)
        oldest.abort()

    def _forget(self, client: str, connection: asyncio.WriteTransport) -> None:
        connections = self._open.get(client, {})
        connections.pop(connection, None)
        if not connections:
            self._open.pop(client, None)
