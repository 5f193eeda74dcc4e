"""Tokens and logins, against login servers that check what a client sends."""

import math
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.secrets.known import redactor
from bitnet_core.settings.storage import BoxOptions, DropboxOptions, GoogleDriveOptions, OneDriveOptions
from bitnet_core.storage import oauth
from bitnet_core.storage.catalog import KINDS
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.oauth import SERVICES, AccessToken, Prompt, login
from bitnet_core.storage.target import Nonsense, Refused, Unreachable
from tests.storage.fakes import identity
from tests.storage.fakes.identity import Identity
from tests.storage.stand import free_port
from tests.storage.tls_proxy import Proxy, Reply, Request, behind, proxy

OPTIONS: dict[str, oauth.Options] = {
    "onedrive": OneDriveOptions(client_id="the-client"),
    "gdrive": GoogleDriveOptions(client_id="the-client"),
    "dropbox": DropboxOptions(app_key="the-client"),
    "box": BoxOptions(client_id="the-client"),
}
SECRET = "a-client-secret"


class World:
    """An identity behind a proxy; `instead` plays a fault."""

    def __init__(self, server: Identity, running: Proxy) -> None:
        self.server = server
        self.running = running

    def token(self, refresh: str = "first", keep: Callable[[str, str], object] | None = None) -> AccessToken:
        keys = {"ONEDRIVE_REFRESH_TOKEN": refresh}
        return AccessToken(KINDS["onedrive"], OPTIONS["onedrive"], Keys(keys, keep) if keep else Keys(keys))

    def login(self, kind: str, show: Callable[[Prompt], object]) -> str:
        self.server.client_secret = SECRET
        return login(KINDS[kind], OPTIONS[kind], Keys({SERVICES[kind].secret: SECRET}), show)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated: Path) -> Iterator[World]:
    server = Identity(refresh_tokens={"first"})

    def answer(request: Request) -> Reply:
        return server.answer(request) or Reply(404)

    monkeypatch.setattr(oauth, "_pause", lambda _: None)
    for kind in ("dropbox", "box"):
        address = f"http://{urlsplit(SERVICES[kind].redirect).hostname}:{free_port()}/"
        monkeypatch.setitem(SERVICES, kind, replace(SERVICES[kind], redirect=address))
    with proxy(identity.HOSTS, answer, tmp_path) as running, behind(running):
        yield World(server, running)
    assert not running.faults, running.faults[0]


def visit(url: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = url.replace("localhost", "127.0.0.1")
    request = urllib.request.Request(address, headers=headers or {})  # noqa: S310 - loopback
    try:
        with opener.open(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


# -- tokens ----------------------------------------------------------------------------------------------------
def test_an_access_token_is_asked_for_once_and_renewed_on_demand(world: World) -> None:
    token = world.token()
    first = token.headers(False)
    assert token.headers(False) == first
    assert token.headers(True) != first
    assert [form["grant_type"] for form in world.server.asked] == ["refresh_token"] * 2


def test_an_access_token_is_renewed_before_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    token = world.token()
    first = token.headers(False)
    now = time.monotonic()
    monkeypatch.setattr(oauth.time, "monotonic", lambda: now + 3600 - oauth._EARLY_SECONDS + 1)
    assert token.headers(False) != first


def test_many_threads_ask_for_one_token(world: World) -> None:
    token = world.token()
    with ThreadPoolExecutor(16) as pool:
        assert len({one["Authorization"] for one in pool.map(token.headers, [False] * 32)}) == 1
    assert len(world.server.asked) == 1


def test_a_rotated_refresh_token_is_kept_before_its_access_token_is_used(world: World) -> None:
    world.server.rotates = True
    kept: list[tuple[str, str]] = []
    token = world.token(keep=lambda name, value: kept.append((name, value)))
    token.headers(False)
    assert kept == [("ONEDRIVE_REFRESH_TOKEN", next(iter(world.server.refresh_tokens)))]
    token.headers(True)
    assert world.server.asked[-1]["refresh_token"] == kept[0][1]


def test_a_rotated_refresh_token_that_cannot_be_kept_is_told_and_still_used(world: World) -> None:
    world.server.rotates = True

    def full(name: str, value: str) -> None:
        raise BitnetError(f"{name} can't be written; unlock the keyring.")

    token = world.token(keep=full)
    with pytest.raises(BitnetError, match="unlock the keyring"):
        token.headers(False)
    with pytest.raises(BitnetError, match="unlock the keyring"):
        token.headers(False)  # with the newer one, which the server accepts
    assert len({form["refresh_token"] for form in world.server.asked}) == 2


def test_an_ended_login_says_what_to_run_and_no_secret(world: World) -> None:
    with pytest.raises(Refused, match=r"revoked.*; run `bitnet store login`") as refused:
        world.token("an-old-token").headers(False)
    assert "an-old-token" not in str(refused.value)


def test_an_app_that_is_not_known_is_named(world: World) -> None:
    world.server.client_id = "another"
    with pytest.raises(Refused, match="check ONEDRIVE_CLIENT_ID"):
        world.token().headers(False)


def test_without_a_login_or_an_app_the_setting_is_named() -> None:
    with pytest.raises(UsageError, match="ONEDRIVE_REFRESH_TOKEN is not set; `bitnet store login`"):
        AccessToken(KINDS["onedrive"], OPTIONS["onedrive"], Keys())
    with pytest.raises(UsageError, match="DROPBOX_APP_KEY is not set"):
        login(KINDS["dropbox"], DropboxOptions(app_key=""), Keys(), lambda _: None)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_login_server_is_unreachable(world: World, status: int) -> None:
    world.running.instead = lambda _: Reply(status, b"{}", {"Retry-After": "7"})
    with pytest.raises(Unreachable) as busy:
        world.token().headers(False)
    assert busy.value.after == 7


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"[]", b"{}", b'{"access_token": 1}', b'{"access_token": ""}', b'{"access_token": "a\\r\\nX: y"}',
        b'{"error": {"code": 1}}', b"[" * 60_000, b"\xff", b'{"access_token": "\xc3\xa9"}',
    ],
)  # fmt: skip
def test_an_answer_that_is_no_token_is_told_in_a_sentence(world: World, body: bytes) -> None:
    world.running.instead = lambda _: Reply(200, body)
    with pytest.raises(Nonsense):
        world.token().headers(False)


@pytest.mark.parametrize("seconds", ["1e999", "-1", '"soon"', "null", "true", "1e300"])
def test_any_length_of_life_is_taken(world: World, seconds: str) -> None:
    world.running.instead = lambda _: Reply(200, b'{"access_token": "given", "expires_in": %b}' % seconds.encode())
    assert world.token().headers(False) == {"Authorization": "Bearer given"}


# -- by a code on another device -------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["onedrive", "gdrive"])
def test_a_code_on_another_device_logs_in(world: World, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    states = iter(["authorization_pending", "slow_down", "authorization_pending", "approved"])

    def pause(seconds: float) -> None:
        waits.append(seconds)
        next(iter(world.server.devices.values())).state = next(states)

    monkeypatch.setattr(oauth, "_pause", pause)
    shown: list[Prompt] = []
    assert world.login(kind, shown.append) in world.server.refresh_tokens
    assert shown[0].url == "https://example.com/device"
    assert shown[0].code.startswith("ABC-")
    assert waits == [5, 5, 10, 10]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("access_denied", "was declined; run"),
        ("authorization_declined", "was declined; run"),
        ("expired_token", "nobody logged in"),
        ("bad_verification_code", "run `bitnet store login` again"),
    ],
)
def test_a_code_that_leads_to_nothing_is_told(world: World, state: str, said: str) -> None:
    def show(_: Prompt) -> None:
        next(iter(world.server.devices.values())).state = state

    with pytest.raises(Refused, match=said):
        world.login("onedrive", show)


def test_a_code_ends_without_the_server_saying_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [time.monotonic()]

    def pause(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(oauth, "_pause", pause)
    monkeypatch.setattr(oauth.time, "monotonic", lambda: now[0])
    with pytest.raises(Refused, match="nobody logged in"):
        world.login("onedrive", lambda _: None)
    assert len(world.server.asked) == 900 / 5


def test_a_cut_while_waiting_is_no_end(world: World) -> None:
    faults = [Reply(503), Reply(200, b"half", {"Content-Length": "100"}, cut=4), Reply(200, b"<html>")]

    def show(_: Prompt) -> None:
        next(iter(world.server.devices.values())).state = "approved"
        world.running.instead = lambda _: faults.pop() if faults else None

    assert world.login("onedrive", show) in world.server.refresh_tokens
    assert not faults


@pytest.mark.parametrize("address", ["javascript:alert(1)", "http://example.com", "", "https://[", 5])
def test_a_device_page_must_be_one_of_the_web(world: World, address: object) -> None:
    body = f'{{"device_code": "d", "user_code": "u", "verification_uri": "{address}", "expires_in": 9}}'.encode()
    world.running.instead = lambda _: Reply(200, body)
    with pytest.raises(Nonsense):
        world.login("onedrive", lambda _: pytest.fail("shown"))


# -- by a browser that comes back ------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["dropbox", "box", "gdrive"])
def test_a_browser_that_comes_back_logs_in(world: World, kind: str) -> None:
    world.server.devices_allowed = False
    shown: list[Prompt] = []

    def show(prompt: Prompt) -> None:
        shown.append(prompt)
        assert visit(world.server.consent(prompt.url))[0] == 200

    assert world.login(kind, show) in world.server.refresh_tokens
    assert not shown[0].code
    asked = parse_qs(urlsplit(shown[0].url).query)
    sent = world.server.asked[-1]
    assert sent["code_verifier"] not in shown[0].url
    assert SECRET not in shown[0].url
    assert asked["redirect_uri"] == [sent["redirect_uri"]]
    assert redactor()(shown[0].url) == shown[0].url, "people could not use what is masked"


def test_a_declined_login_is_told(world: World) -> None:
    with pytest.raises(Refused, match="was declined; run `bitnet store login` again"):
        world.login("dropbox", lambda prompt: visit(world.server.consent(prompt.url, declined=True)))


def test_only_the_visit_that_belongs_to_the_login_counts(world: World) -> None:
    def show(prompt: Prompt) -> None:
        back = world.server.consent(prompt.url)
        page = back.partition("?")[0]
        port = urlsplit(back).port
        assert visit(f"{page}favicon.ico")[0] == 404
        assert visit(back.replace("/?", "/other?"))[0] == 404
        assert visit(page)[0] == 400
        assert visit(f"{page}?code=stolen&state=guessed")[0] == 400
        assert visit(f"{page}?error=access_denied&state=%C3%A9")[0] == 400
        assert visit(back.partition("state=")[0] + "state=")[0] == 400
        assert visit(back, {"Host": f"evil.example:{port}"})[0] == 400
        assert visit(back)[0] == 200
        assert visit(back)[0] == 200  # a reload
        assert visit(back.replace("code=", "code=other-"))[0] == 200  # a second visitor

    assert world.login("dropbox", show) in world.server.refresh_tokens


def test_a_page_shows_nothing_of_what_it_was_given(world: World) -> None:
    def show(prompt: Prompt) -> None:
        back = world.server.consent(prompt.url)
        assert "script" not in visit(f"{back.partition('?')[0]}?state=<script>&code=<script>")[1]
        assert "state" not in visit(back)[1]

    world.login("box", show)


def test_a_visitor_who_says_nothing_holds_up_nobody(world: World) -> None:
    def show(prompt: Prompt) -> None:
        back = world.server.consent(prompt.url)
        with socket.create_connection(("127.0.0.1", urlsplit(back).port or 0)):
            assert visit(back)[0] == 200

    assert world.login("dropbox", show)


def test_a_browser_that_never_comes_back_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oauth, "LOGIN_SECONDS", 0.01)
    with pytest.raises(Refused, match=r"did not come back to http://localhost:\d+/; .*names this address"):
        world.login("dropbox", lambda _: None)


def test_a_port_in_use_is_told_and_free_again_after_a_login(world: World) -> None:
    def show(_: Prompt) -> None:
        with pytest.raises(Refused, match="is needed for the login"):
            world.login("dropbox", lambda _: None)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        world.login("dropbox", show)
    assert world.login("dropbox", lambda prompt: visit(world.server.consent(prompt.url)))


def test_a_code_that_was_used_before_is_told(world: World) -> None:
    def show(prompt: Prompt) -> None:
        back = world.server.consent(prompt.url)
        world.server.codes.clear()
        visit(back)

    with pytest.raises(Refused, match="Malformed auth code"):
        world.login("dropbox", show)


def test_a_login_without_a_refresh_token_is_told(world: World) -> None:
    def show(prompt: Prompt) -> None:
        world.running.instead = lambda _: Reply(200, b'{"access_token": "given", "expires_in": 9}')
        visit(world.server.consent(prompt.url))

    with pytest.raises(Refused, match="gave no refresh token"):
        world.login("dropbox", show)


def test_an_access_token_works_until_its_end(world: World) -> None:
    """The fake itself: it must not take what has ended."""
    world.server.seconds = -1
    name = world.token().headers(False)["Authorization"].removeprefix("Bearer ")
    request = Request("GET", "graph.microsoft.com", "/", "/", {}, {"authorization": f"Bearer {name}"}, b"")
    assert not world.server.accepts(request)
    world.server.access[name] = math.inf
    assert world.server.accepts(request)
