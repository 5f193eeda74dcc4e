"""A TCP proxy on loopback that breaks connections after some bytes, by a plan or by chance from a seed."""

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Cut:
    """Break a connection after so many bytes towards the server (`up`) or the client (`down`)."""

    after: int
    direction: Literal["up", "down"] = "up"
    reset: bool = True
    """With a reset, which both ends see as an error; else as an end in the usual way, which a client must notice."""


Plan = Callable[[], Cut | None]
"""What happens to the next connection; None = nothing."""


def planned(cuts: Iterable[Cut | None]) -> Plan:
    """One after another; nothing happens to the connections after the last."""
    left = iter(list(cuts))
    return lambda: next(left, None)


def random_cuts(seed: int, share: float = 0.3, most_bytes: int = 1 << 20) -> Plan:
    """Cuts for this share of the connections, in either direction, by chance but the same for a seed."""
    chance = random.Random(seed)

    def plan() -> Cut | None:
        if chance.random() >= share:
            return None
        # Small counts as often as large ones, so that heads are cut as well as bodies.
        after = int(most_bytes ** chance.random())
        return Cut(after, chance.choice(("up", "down")), chance.random() < 0.5)

    return plan


@dataclass
class CuttingProxy:
    """A running proxy; `plan` may be replaced at any time."""

    port: int
    plan: Plan
    connections: int = 0
    cuts: list[Cut] = field(default_factory=list)
    """Those that happened."""


@contextlib.contextmanager
def cutting_proxy(server_port: int, plan: Plan) -> Iterator[CuttingProxy]:
    """Run a proxy in front of a port of loopback until the context ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        proxy = CuttingProxy(listener.getsockname()[1], plan)
        open_pairs: set[_Pair] = set()
        lock = threading.Lock()

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with lock:
                    proxy.connections += 1
                    cut = proxy.plan()
                try:
                    server = socket.create_connection(("127.0.0.1", server_port))
                except OSError:
                    client.close()
                    continue
                pair = _Pair(client, server, cut, proxy.cuts.append)
                with lock:
                    open_pairs.add(pair)
                pair.start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            # Closing alone would not wake accept().
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for pair in open_pairs:
                pair.close()


class _Pair:
    """A connection to the proxy and the one that it opened to the server."""

    def __init__(
        self, client: socket.socket, server: socket.socket, cut: Cut | None, report: Callable[[Cut], None]
    ) -> None:
        self._client, self._server, self._cut, self._report = client, server, cut, report
        self._closing = threading.Lock()
        self._ended: set[str] = set()
        self._is_closed = False
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for direction in ("up", "down"):
            threading.Thread(target=self._pass_on, args=(direction,), daemon=True).start()

    def _pass_on(self, direction: str) -> None:
        source, sink = (self._client, self._server) if direction == "up" else (self._server, self._client)
        left = self._cut.after if self._cut and self._cut.direction == direction else None
        try:
            while left is None or left > 0:
                data = source.recv(_CHUNK if left is None else min(left, _CHUNK))
                if not data:
                    if self._is_closed:
                        return
                    sink.shutdown(socket.SHUT_WR)
                    break
                sink.sendall(data)
                left = None if left is None else left - len(data)
            else:
                assert self._cut is not None
                self._report(self._cut)
                self.close(reset=self._cut.reset)
        except OSError:
            self.close()
        with self._closing:
            self._ended.add(direction)
            both = len(self._ended) == 2
        if both:
            self.close()

    def close(self, reset: bool = False) -> None:
        self._is_closed = True
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                # The other thread may wait in recv() for this end; the connection lasts until it is woken.
                end.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)
            end.close()
