"""Connections whose request has not arrived completely. Their number is bounded: a new one replaces the oldest.

So a client that sends slowly, or sends nothing, does not keep others out.
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
        """Count a connection as waiting. The oldest is closed for it if there are too many."""
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
