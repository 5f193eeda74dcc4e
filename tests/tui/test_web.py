"""`bitnet-tui --web`: who is let in, and what is served."""

import asyncio
import base64
import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from bitnet_tui.browser import InBrowser
from bitnet_tui.flood import MOST_WAITING
from bitnet_tui.start import main
from bitnet_tui.web.gate import COOKIE, Gate
from tests.tui.serving import get, serving


def test_the_token_works_once_and_only_the_sessions_cookie_afterwards():
    gate = Gate(8000)
    assert gate.address == f"http://127.0.0.1:8000{gate.path}?token={gate.token}"
    for wrong in (None, "", gate.token[:-1], gate.session, f"{gate.token}\udcff", "é"):
        assert not gate.redeem(wrong) and not gate.knows(wrong if wrong != gate.session else None)
    assert gate.redeem(gate.token)
    assert not gate.redeem(gate.token)
    assert gate.knows(gate.session)
    assert gate.token not in repr(gate) and gate.session not in repr(gate)
    other = Gate(8000)
    assert len({gate.token, gate.session, other.token, other.session, gate.path, other.path}) == 6


@pytest.mark.parametrize("name", ["127.0.0.1:8000", "localhost:8000"])
def test_only_its_own_host_and_origin_count(name: str):
    gate = Gate(8000)
    assert gate.is_own_host(name) and gate.is_own_origin(f"http://{name}")
    for host in (
        None,
        "",
        "127.0.0.1",
        "127.0.0.1:8001",
        "evil.example",
        "evil.example:8000",
        f"{name}.evil.example",
    ):
        assert not gate.is_own_host(host)
    for origin in (None, "null", f"https://{name}", "http://evil.example", f"http://{name}.evil.example", name):
        assert not gate.is_own_origin(origin)


def test_without_the_extra_it_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "textual_serve", None)
    monkeypatch.delitem(sys.modules, "bitnet_tui.web.server", raising=False)
    assert main(["--web", "--home", str(home)]) == 2
    assert capsys.readouterr().err == (
        "bitnet-tui: bitnet-tui --web needs an extra; install it with `pip install 'bitnet-tui[web]'`.\n"
    )


_STRANGE = {
    "no HTTP": b"\x16\x03\x01\x00\xff\x1b[31m\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a long header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 10_000 + b"\r\n",
    "an endless body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
    "a wrong chunk": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
}


def test_what_strangers_send_is_refused_without_a_word(served: str):
    host, _, port = served.split("/")[2].partition(":")
    for name, sent in _STRANGE.items():
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(sent)
            assert connection.recv(12)[9:10] == b"4", name
    # and then, in `served`: nothing was said on its stderr


async def test_it_ends_while_a_connection_is_open(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    from bitnet_tui.web.server import GuardedServer

    async def as_from_python_3_12_1_on(server: asyncio.Server) -> None:
        while server._active_count:  # type: ignore[attr-defined]  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)

    if sys.version_info < (3, 12, 1):
        monkeypatch.setattr(asyncio.Server, "wait_closed", as_from_python_3_12_1_on)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    gate = Gate(port)
    async with asyncio.timeout(60):
        async with GuardedServer([], gate).listening(listener):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            page = f"GET {gate.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nCookie: {COOKIE}={gate.session}\r\n\r\n"
            writer.write(page.encode())
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        assert (await reader.read()).endswith(b"</html>\n")  # and then its end
    writer.close()


def test_more_connections_than_files_are_one_sentence(home: Path):
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    errors = home.parent / "stderr"
    few = ("/bin/sh", "-c", 'ulimit -n 64; exec "$@"', "sh")
    with serving(home, errors, *few) as address, contextlib.ExitStack() as crowd:
        host, _, port = address.split("/")[2].partition(":")
        for _ in range(100):
            crowd.enter_context(socket.create_connection((host, int(port)), timeout=60))
        while not errors.read_text().endswith("\n"):
            time.sleep(0.05)
        crowd.close()
        assert get(address, "/")[0] == 403
        assert errors.read_text() == (
            "bitnet-tui: too many connections are open (Too many open files); others wait until some are closed.\n"
        )


@pytest.mark.parametrize("allowed", [5, 6, 20])
def test_a_limit_below_what_the_pages_open_is_one_sentence(home: Path, allowed: int):
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    command = [sys.executable, "-m", "bitnet_tui", "--home", str(home), "--web"]
    done = subprocess.run(
        ["/bin/sh", "-c", f'ulimit -n {allowed}; exec "$@"', "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert done.stderr == (
        f"bitnet-tui: bitnet-tui --web opens up to 64 files at once, and {allowed} are allowed; "
        "raise the limit with `ulimit -n 64`.\n"
    )


def test_nothing_is_served_before_the_token_nor_to_other_pages(served: str):
    host, path = served.split("/")[2], f"/{served.split('/')[3]}/"
    opening = f"{path}?{served.partition('?')[2]}"
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec_WebSocket_Version": "13"}
    upgrade["Sec_WebSocket_Key"] = base64.b64encode(b"0123456789abcdef").decode()
    for wanted in ("/", path, f"{path}ws", f"{path}textual.js", "/static/", f"{path}?token=x", f"/x/{opening}"):
        assert get(served, wanted)[0] == 403, wanted
    assert get(served, opening, Host="evil.example")[0] == 403
    assert get(served, opening, Origin="http://evil.example")[0] == 403
    status, headers, _ = get(served, opening)
    assert (status, headers["Location"]) == (303, path)
    name, _, rest = headers["Set-Cookie"].partition("=")
    assert name == COOKIE and {"HttpOnly", "SameSite=Strict", f"Path={path}"} <= set(rest.split("; "))
    assert get(served, opening)[0] == 403
    cookie = f"{name}={rest.partition(';')[0]}"
    status, headers, page = get(served, path, Cookie=cookie)
    assert status == 200 and "default-src 'none'" in headers["Content-Security-Policy"]
    assert "http://" not in page.replace(f"ws://{host}", "") and "https://" not in page
    assert [get(served, path + name, Cookie=cookie)[0] for name in ("textual.js", "xterm.css", "mono.ttf")] == [
        200
    ] * 3
    for leak in ("server.py", "page.html", "static/", "..%2f..%2fpyproject.toml", "js/textual.js", "download/x"):
        assert get(served, path + leak, Cookie=cookie)[0] == 404, leak
    own = f"http://{host}"
    assert get(served, f"{path}ws", Cookie=cookie, **upgrade)[0] == 403
    assert get(served, f"{path}ws", Cookie=cookie, Origin="http://evil.example", **upgrade)[0] == 403
    assert get(served, f"{path}ws", Cookie=cookie, Origin=own, Host="evil.example", **upgrade)[0] == 403
    assert get(served, f"{path}ws", Origin=own, **upgrade)[0] == 403
    # Nothing listens where other machines could ask.
    with socket.socket() as outside, pytest.raises(OSError):
        outside.settimeout(2)
        outside.connect(("127.0.0.2", int(host.partition(":")[2])))


async def test_pages_that_come_at_once_are_counted_before_any_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    from aiohttp import web
    from aiohttp.test_utils import make_mocked_request

    from bitnet_tui.web import server

    guarded, waiting, may_go = server.GuardedServer(["true"], Gate(8000)), 0, asyncio.Event()

    async def prepare(*_: object) -> None:
        nonlocal waiting
        waiting += 1
        await may_go.wait()
        raise ConnectionResetError

    monkeypatch.setattr(web.WebSocketResponse, "prepare", prepare)
    request = make_mocked_request("GET", "/ws")
    coming = [asyncio.create_task(guarded._socket(request)) for _ in range(20)]
    await asyncio.sleep(0)
    await guarded._close_pages(web.Application())
    may_go.set()
    found = await asyncio.gather(*coming, return_exceptions=True)
    assert waiting == 8
    assert sum(isinstance(one, web.HTTPServiceUnavailable) for one in found) == 12
    assert not guarded._open, "one that never came is not counted for ever"


async def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    from bitnet_tui.web import server

    monkeypatch.setattr(server, "_SILENT_SECONDS", 0.2)
    listener = socket.create_server(("127.0.0.1", 0))
    gate = Gate(listener.getsockname()[1])
    sent = (b"", b"GET", b"GET / HTTP/1.1\r\nX: x")
    asked = f"GET {gate.path} HTTP/1.1\r\nHost: 127.0.0.1:{gate.port}\r\n"
    async with asyncio.timeout(60), server.GuardedServer(["true"], gate).listening(listener):
        for text in sent:
            reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
            writer.write(text)
            assert await reader.read() == b"", text
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        writer.write(f"{asked}\r\n{asked}\r\n".encode())
        assert (await reader.read()).count(b"HTTP/1.1 403") == 1, "a stranger asks once a connection"
        reader, writer = await asyncio.open_connection("127.0.0.1", gate.port)
        for _ in range(2):  # the browser's connection is kept
            writer.write(f"{asked}Cookie: {COOKIE}={gate.session}\r\n\r\n".encode())
            assert (await reader.readuntil(b"</html>\n")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.3)  # longer than a silent one


_SAYS_THAT_IT_IS_THERE = r"printf '__GANGLION__\nD\0\0\0\1x'; "
_APPS = {
    "ends when nothing more is typed": ("cat", 60, 0),
    "draws, and nobody looks": ("head -c 1000000 /dev/zero; cat", 60, 0),
    "reads nothing": ("exec sleep 600", 0.1, -signal.SIGTERM),
    "ends at no signal": ("while :; do sleep 0.01; done", 0.1, -signal.SIGKILL),
}


@pytest.mark.parametrize("kind", _APPS)
async def test_the_app_of_a_closed_page_ends(kind: str, monkeypatch: pytest.MonkeyPatch):
    """It is asked, then told by SIGTERM, then killed."""
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    from textual_serve.app_service import AppService

    from bitnet_tui.web import server

    command, patience, code = _APPS[kind]
    monkeypatch.setattr(server, "_URGE_SECONDS", patience)
    if code == -signal.SIGKILL:
        command = f"trap '' TERM; {_SAYS_THAT_IT_IS_THERE}{command}"
    else:
        command = _SAYS_THAT_IT_IS_THERE + command
    shown, never = asyncio.Event(), asyncio.Event()

    async def show(_: object) -> None:
        shown.set()
        await never.wait()

    anything: Any = None
    page = AppService(command, write_bytes=show, write_str=show, close=anything, download_manager=anything)
    await page.start(80, 24)
    process = page._process
    assert process is not None
    async with asyncio.timeout(60):
        await shown.wait()
        await server._end(page)
        assert await process.wait() == code


def test_what_is_typed_in_a_closing_app_is_not_read(monkeypatch: pytest.MonkeyPatch):
    """One that read on outlived its server for a minute."""
    driver = InBrowser.__new__(InBrowser)
    driver._debug, driver.exit_event = False, threading.Event()
    driver._input_reader = [b"D" + (1 << 20).to_bytes(4, "big"), b"a" * (1 << 20), b""]  # type: ignore[assignment]
    taken: list[object] = []

    def take(message: object) -> None:
        taken.append(message)
        driver.exit_event.set()

    monkeypatch.setattr(driver, "process_message", take)
    driver._read()
    assert 0 < len(taken) <= 4096


async def test_a_flood_of_keys_in_a_page_is_cut_and_its_app_ends_with_it(served: str):
    import aiohttp

    address = urlsplit(served)
    servers = psutil.Process().children()
    async with (
        asyncio.timeout(120),
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser,
    ):
        async with browser.get(served) as page:
            assert page.status == 200
        own = f"http://{address.netloc}"
        async with browser.ws_connect(f"ws://{address.netloc}{address.path}ws", origin=own) as page:
            drawn = b""
            while b"7.28" not in drawn:
                drawn += await page.receive_bytes()
            (app,) = (one for server in servers for one in server.children())
            await page.send_json(["stdin", "\x1b[" + "1;" * 10 * MOST_WAITING])
            while b"Too many keys came at once" not in drawn:
                drawn += await page.receive_bytes()
            await page.send_json(["stdin", "a" * 3_000_000])
        assert psutil.wait_procs([app], timeout=60)[0] == [app]


async def test_half_a_character_in_a_paste_is_typed_as_a_sign():
    pytest.importorskip("textual_serve", reason="the extra `web` is not installed")
    from bitnet_tui.web import server

    typed: list[bytes] = []

    class Page:
        async def send_bytes(self, data: bytes) -> None:
            typed.append(data)

    page: Any = Page()
    await server._heed(["stdin", "a\ud800é"], page, page)
    assert typed == ["a?é".encode()]
