"""What a proxy does is told as the proxy's, with the variable that names it, by each HTTP client that is used."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from bitnet_core.errors import BitnetError
from bitnet_core.network import proxy
from bitnet_core.runs import messenger
from bitnet_core.runs.notices import Notice
from bitnet_core.storage.clients.http import Http
from bitnet_core.storage.clients.sdk_session import sdk_session
from bitnet_core.storage.target import Refused, Unreachable
from bitnet_core.teachers.http.client import JsonClient
from bitnet_core.teachers.http.pace import Pace
from bitnet_core.teachers.http.retries import Failure
from bitnet_core.teachers.http.retries import Unreachable as TeacherUnreachable
from bitnet_core.teachers.profiles import PROVIDERS
from bitnet_core.teachers.wire.openai import OpenAIChat
from tests.sockets import served

PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>Sign in</html>"
NAMES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
LOCKED = b"HTTP/1.1 407 Please\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
SECRET = "http://somebody:canary@"


def refusal(status: int) -> bytes:
    return b"HTTP/1.1 %d Said by it\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % status


@contextlib.contextmanager
def standing(answer: bytes) -> Iterator[str]:
    """A proxy that answers every request so and ends the connection; nothing at all if the answer is empty."""

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            asked = b""
            while answer and b"\r\n\r\n" not in asked:
                asked += connection.recv(4096)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):  # so that no reset takes the answer away
                pass

    with served(serve) as address:
        yield address.removeprefix("http://")


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def asked_by_teacher(address: str) -> BitnetError:
    async def ask() -> None:
        async with JsonClient(address, first_wait=0.0) as client:
            await client.get("/models")

    with pytest.raises(TeacherUnreachable) as caught:
        asyncio.run(ask())
    return caught.value


def asked_by_http(address: str) -> BitnetError:
    with Http("WebDAV") as client, pytest.raises((Unreachable, Refused)) as caught:
        client.send("GET", address)
    return caught.value


def asked_by_sdk(address: str) -> BitnetError:
    with sdk_session("Dropbox") as session, pytest.raises((Unreachable, Refused)) as caught:
        session.get(address)
    return caught.value


def asked_by_messenger(address: str) -> BitnetError:
    notice = Notice("end", "demo", "train", "run", "succeeded", "words")
    with pytest.raises(BitnetError) as caught:
        messenger.call_webhook(address, "json", notice)
    return caught.value


CLIENTS = [asked_by_teacher, asked_by_http, asked_by_sdk, asked_by_messenger]


@pytest.mark.parametrize("ask", CLIENTS)
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (LOCKED, "the proxy answers 407 Proxy Authentication Required"),
        (refusal(403), "the proxy answers 403 Forbidden"),
        (refusal(502), "the proxy answers 502 Bad Gateway"),
        (refusal(599), "the proxy answers 599"),
        (b"", ""),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", ""),
        (PAGE, ""),
    ],
)
def test_a_proxy_that_does_not_connect_is_named(
    ask: Callable[[str], BitnetError], answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with standing(answer) as host:
        monkeypatch.setenv("HTTPS_PROXY", SECRET + host)
        words = str(ask("https://example.invalid/v1"))
    assert f"through the proxy {host} of HTTPS_PROXY" in words
    assert said in words
    assert "canary" not in words and "somebody" not in words


@pytest.mark.parametrize("ask", CLIENTS)
def test_a_proxy_that_is_not_there_is_named(
    ask: Callable[[str], BitnetError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", f"{SECRET}127.0.0.1:9")
    words = str(ask("https://example.invalid/v1"))
    assert "through the proxy 127.0.0.1:9 of https_proxy" in words
    assert "canary" not in words


@pytest.mark.parametrize(("status", "final"), [(407, True), (403, True), (502, False)])
def test_only_what_may_pass_is_tried_again(status: int, final: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with standing(refusal(status)) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        kind = type(asked_by_http("https://example.invalid/v1"))
        assert kind is type(asked_by_sdk("https://example.invalid/v1"))
        assert kind is (Refused if final else Unreachable)


def test_a_proxy_that_wants_a_password_in_the_clear_is_not_taken_for_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with standing(LOCKED) as host:
        monkeypatch.setenv("HTTP_PROXY", f"http://{host}")
        for ask in (asked_by_teacher, asked_by_http):
            words = str(ask("http://example.invalid/v1"))
            assert f"through the proxy {host} of HTTP_PROXY (the proxy answers 407 " in words
            assert f"write a user and a password that it takes into HTTP_PROXY (USER:PASSWORD@{host})" in words


def test_an_answer_that_a_proxy_may_have_given_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        address = "http://example.invalid/v1"
        async with OpenAIChat(PROVIDERS["custom"], address, "m", None, first_wait=0.0) as chat:
            await chat.models()

    with standing(PAGE) as host:
        monkeypatch.setenv("ALL_PROXY", f"http://{host}")
        with pytest.raises(BitnetError, match=rf"through the proxy {host} of ALL_PROXY answers with a web page"):
            asyncio.run(ask())
    with standing(refusal(403)) as host, Http("WebDAV") as client:
        monkeypatch.setenv("ALL_PROXY", f"http://{host}")
        response = client.send("GET", "http://example.invalid/")
        assert response.words == f"HTTP 403 through the proxy {host} of ALL_PROXY"


def test_a_request_that_no_proxy_passed_on_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Failure] = []

    async def sent() -> None:
        pass

    async def failed(how: Failure) -> None:
        failures.append(how)

    async def ask() -> None:
        async with JsonClient("https://example.invalid/v1", first_wait=0.0) as client:
            await client.post("/chat", {}, attempts=2, watch=SimpleNamespace(sent=sent, failed=failed))

    with standing(refusal(502)) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        with pytest.raises(TeacherUnreachable):
            asyncio.run(ask())
    assert failures == [Failure.UNSENT, Failure.UNSENT]


def test_tunnels_that_fail_do_not_use_up_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask() -> None:
        async with JsonClient("https://example.invalid/v1", first_wait=0.0, pace=Pace(1)) as client:
            for _ in range(3):
                with pytest.raises(TeacherUnreachable, match=r"no connection|no TLS connection"):
                    await asyncio.wait_for(client.get("/models"), 60)

    with standing(PAGE) as host:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{host}")
        asyncio.run(ask())
        with Http("WebDAV") as client:
            for _ in range(3):
                with pytest.raises(Unreachable):
                    client.send("GET", "https://example.invalid/")
            transports: Any = client._client("https://example.invalid/")._mounts.values()
            assert [transport._pool.connections for transport in transports] == [[]]


@pytest.mark.parametrize(
    ("environment", "address", "found"),
    [
        ({"HTTPS_PROXY": "http://a:1"}, "https://x/", ("a:1", "HTTPS_PROXY")),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "b:2"}, "https://x/", ("b:2", "https_proxy")),
        ({"HTTPS_PROXY": "http://u:p@a:1"}, "https://x/", ("a:1", "HTTPS_PROXY")),
        ({"ALL_PROXY": "http://[::2]:1"}, "http://x/", ("[::2]:1", "ALL_PROXY")),
        ({"HTTP_PROXY": "http://a:1"}, "https://x/", None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x"}, "https://x/", None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x"}, "https://y.x:8/", None),
        ({"HTTPS_PROXY": "http://a:1"}, "https://localhost/", None),
        ({"HTTPS_PROXY": "http://a\x1bm:1"}, "https://x/", ("a·m:1", "HTTPS_PROXY")),
        ({"HTTPS_PROXY": "http://[::1"}, "https://x/", None),
    ],
)
def test_the_proxy_of_an_address(
    environment: dict[str, str], address: str, found: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy.proxy_of(address) == found
