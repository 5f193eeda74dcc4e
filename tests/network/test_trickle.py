"""A server that sends a byte now and then is not waited for without end, whichever client asks it."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bitnet_core.network import trickle
from bitnet_core.storage.clients.aws import Aws
from bitnet_core.storage.clients.http import Http
from bitnet_core.storage.clients.sdk_session import sdk_session
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.target import Unreachable
from bitnet_core.tokenizer.hub_answers import Answers
from tests.sockets import served

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\n\r\n"
LONGEST = 1 << 20
"""Bytes: far more than can trickle in while a test runs."""
EVERY = 0.02


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trickle, "SECONDS", 0.3)


@contextlib.contextmanager
def trickling(sent: bytes, rest: bytes) -> Iterator[str]:
    """The address of a server that answers with `sent` at once, and then with a byte of `rest` now and then."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while connection.recv(1 << 16):
                connection.sendall(sent)
                for byte in rest:
                    if ended.wait(EVERY):
                        return
                    connection.sendall(bytes([byte]))

    with served(serve) as address:
        try:
            yield address
        finally:
            ended.set()


def by_http(url: str) -> bytes:
    with Http("The server") as http:
        return http.send("GET", url).body


def by_sdk_session(url: str) -> bytes:
    with sdk_session("The server") as session:
        session.mount("http://", session.adapters["https://"])
        session.trust_env = False
        return session.get(url).content


def by_aws(url: str) -> bytes:
    keys = Keys({"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret-1"})
    with Aws("S3", "s3", keys, region="us-east-1", endpoint=url, permissions="") as aws:
        body: bytes = aws.call("get_object", Bucket="bucket", Key="key")["Body"]
        return body


CLIENTS = [by_http, by_sdk_session, by_aws]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("sent", "rest"),
    [(HEAD % LONGEST, bytes(LONGEST)), (b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x" * LONGEST), (b"", b"HTTP/1.1 " * 9999)],
    ids=["body", "header", "status line"],
)
def test_a_trickle_ends(client: Callable[[str], bytes], sent: bytes, rest: bytes) -> None:
    began = time.monotonic()
    with trickling(sent, rest) as url, pytest.raises(Unreachable):
        client(url)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("client", CLIENTS)
def test_what_begins_late_and_then_comes_is_taken(client: Callable[[str], bytes]) -> None:
    body = bytes(3 * trickle.LEAST_BYTES)
    with late(HEAD % len(body) + body) as url:
        assert client(url) == body


@contextlib.contextmanager
def late(answer: bytes) -> Iterator[str]:
    """A server that thinks for longer than a response may trickle, for each of its answers."""

    def serve(listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(1 << 16)
                    time.sleep(2 * trickle.SECONDS)
                    connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_kept_connection_may_rest_between_two_responses() -> None:
    with trickling(HEAD % 3 + b"one", b"") as url, Http("The server") as http:
        for _ in range(2):
            assert http.send("GET", url).body == b"one"
            time.sleep(2 * trickle.SECONDS)


def test_a_trickling_hub_ends_in_the_clients_own_error(tmp_path: Path) -> None:
    with (
        trickling(HEAD % LONGEST, bytes(LONGEST)) as url,
        Answers(tmp_path).client() as client,
        pytest.raises(Exception, match=r"fewer than .* bytes") as raised,
    ):
        client.get(f"{url}/api/models/x")
    assert type(raised.value).__name__ == "ReadTimeout"  # of whatever httpx the library uses


def test_a_flow_counts_anew_after_each_share() -> None:
    flow = trickle.Flow()
    for _ in range(5):
        flow.take(trickle.LEAST_BYTES - 1)
        time.sleep(0.1)
        flow.take(1)
    time.sleep(2 * trickle.SECONDS)
    with pytest.raises(TimeoutError, match=f"fewer than {trickle.LEAST_BYTES} bytes"):
        flow.take(1)
