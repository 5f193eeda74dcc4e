"""Which requests are answered: the host, the origin, the route, the key, the length."""

import asyncio
from typing import cast

import h11
import pytest

from bitnet_core.serving.incoming import Incoming
from bitnet_core.serving.request import Gate, Head, Refused

LOCAL = Gate("", is_local=True)
OPEN = Gate("the-key", is_local=False)


def head(*fields: str, start: str = "POST /v1/completions HTTP/1.1") -> h11.Request:
    """Read as from a connection. With the Host of this machine, unless a field gives another."""
    host = [] if any(one.lower().startswith("host") for one in fields) else ["Host: 127.0.0.1"]
    return asyncio.run(sent("\r\n".join([start, *host, *fields, "", ""]).encode("latin-1")))


async def sent(data: bytes) -> h11.Request:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    return await Incoming(reader, cast(asyncio.StreamWriter, None)).head()


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "LocalHost:1", "127.9.9.9", "[::1]:8080"])
def test_this_machine_is_answered(host: str) -> None:
    admitted = LOCAL.admit(head(f"Host: {host}", "content-length:  12 "))
    assert admitted == Head("POST", "/v1/completions", 12)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "::1"),
        *("user@127.0.0.1.evil", "evil.example:80@127.0.0.1:x]", "[::1", "", "2130706433", "127.1", "[::1].evil"),
    ],
)
def test_a_site_that_calls_itself_this_machine_is_not(host: str) -> None:
    with pytest.raises(Refused, match="does not name this machine") as refused:
        LOCAL.admit(head(f"Host: {host}"))
    assert refused.value.status == 403


def test_a_server_for_others_takes_any_name_and_demands_the_key() -> None:
    keys = ["", "Authorization: Bearer", "Authorization: Bearer the-key2", "Authorization: Basic the-key"]
    for field in [*keys, "Authorization: Bearer th\xe9-key", "X-Api-Key: the-key"]:
        with pytest.raises(Refused, match="key is missing or wrong"):
            OPEN.admit(head("Host: box.example", *filter(None, [field])))
    assert OPEN.admit(head("Host: box.example", "AUTHORIZATION: bearer  the-key")).path == "/v1/completions"
    assert OPEN.admit(head(start="GET /health HTTP/1.0")).path == "/health"


@pytest.mark.parametrize(
    ("start", "fields", "status"),
    [
        ("POST /v1/completions HTTP/1.1", ("Origin: http://localhost:3000",), 403),
        ("POST /v1/completions HTTP/1.1", ("Origin: null",), 403),
        ("GET /props HTTP/1.1", (), 404),
        ("GET /slots HTTP/1.1", (), 404),
        ("POST /completion HTTP/1.1", (), 404),
        ("POST /v1/completions/ HTTP/1.1", (), 404),
        ("POST /v1/../v1/completions HTTP/1.1", (), 404),
        ("POST http://127.0.0.1/v1/completions HTTP/1.1", (), 404),
        ("GET /v1/completions HTTP/1.1", (), 405),
        ("OPTIONS /v1/completions HTTP/1.1", (), 405),
        ("POST /v1/models HTTP/1.1", (), 405),
        ("POST /v1/completions HTTP/2", (), 400),
        ("POST /v1/completions HTTP/2.0", (), 505),
        ("\x16\x03\x01\x02", (), 400),
        ("", (), 400),
        ("POST /v1/completions HTTP/1.1", ("no field",), 400),
        ("POST /v1/completions HTTP/1.1", ("Host: localhost", " evil.example"), 403),
        ("POST /v1/completions HTTP/1.1", ("Host : localhost",), 400),
        ("POST /v1/completions HTTP/1.1", ("X: a\nHost: evil.example",), 400),
        ("POST /v1/completions HTTP/1.1", ("Authorization: Bearer a", "Authorization: Bearer b"), 400),
        ("POST /v1/completions HTTP/1.1", ("Host: localhost", "Host: evil.example"), 400),
        ("POST /v1/completions HTTP/1.1", ("Content-Length: 1", "Content-Length: 2"), 400),
        ("POST /v1/completions HTTP/1.1", ("Content-Length: -1",), 400),
        ("POST /v1/completions HTTP/1.1", ("Content-Length: 0x10",), 400),
        ("POST /v1/completions HTTP/1.1", ("Content-Length: \xb2",), 400),
        ("POST /v1/completions HTTP/1.1", (f"Content-Length: {10**30}",), 400),
        ("POST /v1/completions HTTP/1.1", ("Transfer-Encoding: chunked",), 411),
        ("POST /v1/completions HTTP/1.1", ("Transfer-Encoding: gzip",), 501),
        ("POST /v1/completions HTTP/1.1", ("X: " + "x" * (1 << 15),), 431),
    ],
)
def test_what_no_honest_client_sends_is_refused(start: str, fields: tuple[str, ...], status: int) -> None:
    with pytest.raises(Refused) as refused:
        LOCAL.admit(head(*fields, start=start))
    assert refused.value.status == status
