"""The proxy passes everything on, and cuts where it was told to."""

import socket

import pytest

from tests.storage.cutting_proxy import Cut, cutting_proxy, planned, random_cuts
from tests.storage.fakes.server import Reply, serving


def _ask(port: int, body: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection.sendall(head + body)
        received = b""
        while data := connection.recv(1 << 16):
            received += data
        return received


def test_without_cuts_everything_arrives() -> None:
    with serving(lambda request: Reply(200, request.body)) as port, cutting_proxy(port, planned([])) as proxy:
        body = b"0123456789" * 100_000
        assert _ask(proxy.port, body).endswith(b"\r\n\r\n" + body)
        assert proxy.connections == 1 and not proxy.cuts


def test_a_cut_is_where_it_was_planned() -> None:
    asked = []

    def answer(request: object) -> Reply:
        asked.append(request)
        return Reply(200, b"x" * 100_000)

    with serving(answer) as port:
        cuts = [Cut(100_000), Cut(5000, "down", reset=False), None]
        with cutting_proxy(port, planned(cuts)) as proxy:
            with pytest.raises(OSError):
                _ask(proxy.port, b"y" * 3_000_000)
            assert not asked
            assert len(_ask(proxy.port, b"y")) == 5000
            assert len(_ask(proxy.port, b"y")) > 100_000
            assert proxy.cuts == cuts[:2]


def test_a_seed_gives_the_same_cuts() -> None:
    one, other = random_cuts(3), random_cuts(3)
    plans = [one() for _ in range(200)]
    assert plans == [other() for _ in range(200)]
    assert 30 < sum(cut is not None for cut in plans) < 90
