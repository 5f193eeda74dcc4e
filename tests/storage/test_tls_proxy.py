"""The proxy behind which fakes stand is one that ordinary clients accept."""

from pathlib import Path

import httpx
import pytest
import requests

from tests.storage.tls_proxy import Reply, Request, behind, proxy


def _echo(request: Request) -> Reply:
    said = f"{request.method} {request.host}{request.path} {sorted(request.query.items())} {len(request.body)}"
    return Reply(body=said.encode())


def test_clients_reach_a_fake_under_the_vendors_names(tmp_path: Path) -> None:
    with proxy(("api.example.com", "*.example.org"), _echo, tmp_path) as running, behind(running):
        expected = "POST api.example.com/a b [('c', 'd&')] 5"
        assert requests.post("https://api.example.com/a%20b?c=d%26", data=b"12345", timeout=10).text == expected
        assert httpx.post("https://api.example.com/a%20b?c=d%26", content=iter([b"12", b"345"])).text == expected
        assert "x.example.org" in httpx.get("https://x.example.org/").text
        with pytest.raises(httpx.ProxyError):
            httpx.get("https://other.example.net/")
        assert not running.faults


def test_a_fault_is_played_instead(tmp_path: Path) -> None:
    with proxy(("api.example.com",), _echo, tmp_path) as running, behind(running):
        running.instead = lambda request: Reply(429) if request.path == "/busy" else Reply(body=b"1234", cut=2)
        assert httpx.get("https://api.example.com/busy").status_code == 429
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get("https://api.example.com/cut")
