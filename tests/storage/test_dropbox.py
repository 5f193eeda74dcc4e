"""What Dropbox may answer, and what the target makes of it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from bitnet_core.errors import UsageError
from bitnet_core.storage.clients import sdk_session
from bitnet_core.storage.target import AlreadyThere, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets.dropbox import _NAMES
from tests.storage.fakes.dropbox import FakeDropbox, fault_of
from tests.storage.stand import Running, opened
from tests.storage.stands.dropbox import KEYS, SETTINGS, faked
from tests.storage.test_escaping import keys
from tests.storage.tls_proxy import Proxy, Reply, Request

_JSON = {"Content-Type": "application/json"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[FakeDropbox, Proxy]]:
    with faked(tmp_path / "fake") as both:
        yield both


@pytest.fixture
def fake(service: tuple[FakeDropbox, Proxy]) -> FakeDropbox:
    return service[0]


@pytest.fixture
def proxy(service: tuple[FakeDropbox, Proxy]) -> Proxy:
    return service[1]


@pytest.fixture
def target(service: tuple[FakeDropbox, Proxy], tmp_path: Path) -> Iterator[Target]:
    with opened(Running(SETTINGS, KEYS), tmp_path) as one:
        yield one


def _always(reply: Reply) -> Callable[[Request], Reply | None]:
    """The reply to everything but the request for a token."""
    return lambda request: None if request.path == "/oauth2/token" else reply


def _tags(status: int, text: str) -> Reply:
    return Reply(status, text.encode(), _JSON)


@given(keys())
def test_an_escaped_name_is_one_that_dropbox_takes(key: str) -> None:
    name = _NAMES.escape(key)
    assert _NAMES.unescape(name) == key
    if all(len(segment) <= 255 for segment in name.split("/")):
        assert not fault_of(f"/{name}")


@pytest.mark.parametrize("key", ["x/Thumbs.db", "~$draft.docx", ".~lock", "~save.TMP", ".dropbox/a", "🙂", "a /b."])
def test_names_that_dropbox_refuses_are_stored_under_others(target: Target, key: str) -> None:
    assert fault_of(f"/{key}") or key.endswith(".")
    target.put(key, b"1")
    assert [one.key for one in target.list("")] == [key]


def test_a_listing_of_many_pages_is_whole_and_skips_what_is_not_ours(fake: FakeDropbox, target: Target) -> None:
    fake.page = 3
    for number in range(10):
        target.put(f"folder/{number}", b"1")
    for path in ("/experiments/ONE/folder/=zz", "/Experiments/one/folder/=0A", "/Experiments/oneself/x"):
        fake.upload({"path": path}, b"other")
    assert {one.key for one in target.list("folder/")} == {f"folder/{number}" for number in range(10)}


def test_a_key_that_is_a_folder_removes_nothing(target: Target) -> None:
    target.put("folder/x", b"1")
    target.delete("folder")
    assert target.get("folder/x") == b"1"
    with pytest.raises(NoSuchObject):
        target.get("folder")
    with pytest.raises(Refused, match=r"conflict/folder\); "):
        target.put("folder", b"1", only_if_absent=True)
    with pytest.raises(Refused, match="file_ancestor"):
        target.put("folder/x/y", b"1")


def test_the_same_bytes_are_a_conflict_too(target: Target) -> None:
    target.put("x", b"same", only_if_absent=True)
    with pytest.raises(AlreadyThere):
        target.put("x", b"same", only_if_absent=True)


def test_a_file_that_changed_is_not_removed(fake: FakeDropbox, proxy: Proxy, target: Target) -> None:
    target.put("x", b"1")

    def overwrite_first(request: Request) -> None:
        if request.path.endswith("delete_v2"):
            fake.upload({"path": "/Experiments/one/x", "mode": "overwrite"}, b"2")

    proxy.instead = overwrite_first
    with pytest.raises(Unreachable, match="changed"):
        target.delete("x")
    assert target.get("x") == b"2"


def test_bytes_that_change_on_the_way_are_not_stored(proxy: Proxy, target: Target, fake: FakeDropbox) -> None:
    def flip(request: Request) -> Reply | None:
        if not request.path.endswith("/upload"):
            return None
        return fake.answer(
            Request(**{**vars(request), "body": b"x" + request.body[1:]})  # type: ignore[arg-type]
        )

    proxy.instead = flip
    with pytest.raises(Unreachable, match="content_hash_mismatch"):
        target.put("x", b"12345")
    assert not list(target.list(""))


def test_a_full_account_is_refused(fake: FakeDropbox, target: Target) -> None:
    fake.allocated = 10
    target.put("x", b"12345")
    assert target.check().free_bytes == 5
    with pytest.raises(Refused, match="insufficient_space"):
        target.put("y", b"123456")


def test_a_teams_space_is_the_teams(proxy: Proxy, target: Target) -> None:
    team = {
        ".tag": "team",
        "used": 70,
        "allocated": 100,
        "user_within_team_space_allocated": 0,
        "user_within_team_space_limit_type": {".tag": "off"},
        "user_within_team_space_used_cached": 0,
    }
    answer = json.dumps({"used": 5, "allocation": team}).encode()
    proxy.instead = lambda request: Reply(200, answer, _JSON) if request.path.endswith("get_space_usage") else None
    assert target.check().free_bytes == 30


def test_what_changes_while_it_is_listed_is_listed_once_or_not_at_all(
    fake: FakeDropbox, proxy: Proxy, target: Target
) -> None:
    for name in ("x", "y"):
        target.put(name, b"1")
    old = fake.nodes["/experiments/one/x"].metadata()
    gone = {".tag": "deleted", **{name: old[name] for name in ("name", "path_lower", "path_display")}}
    again = fake.nodes["/experiments/one/y"].metadata() | {"size": 2}
    more = {"entries": [gone, again], "cursor": "end", "has_more": False}
    fake.page = 3  # the folder and both files
    listed = json.dumps(fake.list_folder({"path": "/Experiments/one", "recursive": True}, b"") | {"has_more": True})
    proxy.instead = lambda request: (
        Reply(200, json.dumps(more).encode() if request.path.endswith("continue") else listed.encode(), _JSON)
        if "list_folder" in request.path
        else None
    )
    assert [(one.key, one.size) for one in target.list("")] == [("y", 2)]


def test_a_cursor_that_has_ended_is_unreachable(fake: FakeDropbox, target: Target) -> None:
    fake.page = 1
    target.put("x", b"1")
    listing = target.list("")
    fake.cursors = _Forgetful()
    with pytest.raises(Unreachable, match="reset"):
        next(listing)


class _Forgetful(dict[str, list[dict[str, Any]]]):
    def __contains__(self, key: object) -> bool:
        return False


def test_a_root_that_is_a_file_is_refused(fake: FakeDropbox, target: Target) -> None:
    fake.upload({"path": "/Experiments/one"}, b"")
    with pytest.raises(Refused, match="DROPBOX_ROOT"):
        target.check()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_unreachable_once_and_says_how_long(proxy: Proxy, target: Target, status: int) -> None:
    asked = []

    def busy(request: Request) -> Reply:
        asked.append(request.path)
        return Reply(status, b"busy", {"Retry-After": "7"})

    target.check()
    proxy.instead = busy
    with pytest.raises(Unreachable) as raised:
        target.put("x", b"1")
    assert raised.value.after == 7
    assert len(asked) == 1


def test_a_lock_on_the_account_is_unreachable(proxy: Proxy, target: Target) -> None:
    error = {".tag": "path", "reason": {".tag": "too_many_write_operations"}, "upload_session_id": ""}
    proxy.instead = _always(Reply(409, json.dumps({"error_summary": "", "error": error}).encode(), _JSON))
    with pytest.raises(Unreachable, match="too_many_write_operations"):
        target.put("x", b"1")


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>a portal</html>", {"Content-Type": "text/html"}),
        Reply(200, b"[" * 100_000, _JSON),
        Reply(200, b'{"entries": 3, "cursor": {}, "has_more": "x"}', {**_JSON, "Dropbox-API-Result": "[]"}),
        Reply(200, b'{"entries": [{".tag": "file", "size": -1}], "cursor": "", "has_more": true}', _JSON),
        Reply(200, b"null", {**_JSON, "Dropbox-API-Result": "null"}),
        Reply(409, b"not json", _JSON),
        Reply(409, b'{"error": "nonsense"}', _JSON),
        Reply(401, b"no", {"Content-Type": "text/plain"}),
        Reply(401, b'{"error": {".tag": "new_kind"}}', _JSON),
        Reply(403, b"{}", _JSON),
        Reply(400, b"\x1b[31mbad", {"Content-Type": "text/plain"}),
        Reply(418, b"teapot"),
        Reply(302, b"", {"Location": "http://127.0.0.1:1/x"}),
        Reply(307, b"", {"Location": "ftp://host/x"}),
        Reply(307, b"", {"Location": "https://["}),
        Reply(200, b"x" * 100, {"Content-Type": "application/json"}, cut=50),
    ],
)
def test_hostile_replies_end_in_a_sentence(proxy: Proxy, target: Target, reply: Reply) -> None:
    proxy.instead = _always(reply)
    for call in (
        target.check,
        lambda: target.put("x", b"1"),
        lambda: target.get("x"),
        lambda: list(target.list("")),
        lambda: target.delete("x"),
    ):
        with pytest.raises((Refused, Unreachable)) as raised:
            call()
        assert str(raised.value).endswith(".") and str(raised.value).isprintable()


def test_a_listing_that_does_not_end_is_refused(
    proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitnet_core.storage.targets.dropbox._MOST_PAGES", 5)
    proxy.instead = _always(Reply(200, b'{"entries": [], "cursor": "again", "has_more": true}', _JSON))
    with pytest.raises(Refused, match="does not end"):
        list(target.list(""))


def test_a_body_without_end_is_refused(proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    target.put("x", b"1" * 2000)
    monkeypatch.setattr(sdk_session, "MOST_BYTES", 1000)
    with pytest.raises(Refused, match="more than was asked for"):
        target.get("x")


def test_an_expired_token_is_renewed(fake: FakeDropbox, target: Target) -> None:
    target.put("x", b"1")
    fake.access = dict.fromkeys(fake.access, 0.0)
    assert target.get("x") == b"1"
    assert fake.log.count("/oauth2/token") == 2


def test_an_expired_access_token_alone_is_refused(fake: FakeDropbox, tmp_path: Path) -> None:
    fake.access["sl.old-token"] = 0.0
    with (
        opened(Running(SETTINGS, {"DROPBOX_ACCESS_TOKEN": "sl.old-token"}), tmp_path) as target,
        pytest.raises(Refused, match=r"expired_access_token\); run `bitnet store login`\.") as raised,
    ):
        target.check()
    assert "sl.old-token" not in str(raised.value)


@pytest.mark.parametrize(
    ("secret", "reply"),
    [
        ("x", Reply(400, b'{"error": "invalid_grant"}', _JSON)),
        ("wrong-app-secret", None),
        ("x", Reply(200, b"{}", _JSON)),
        ("x", Reply(200, b'{"access_token": 3, "expires_in": "soon"}', _JSON)),
    ],
)
def test_a_failed_renewal_is_a_sentence_without_secrets(
    proxy: Proxy, tmp_path: Path, secret: str, reply: Reply | None
) -> None:
    proxy.instead = lambda request: reply if request.path == "/oauth2/token" else None
    given_keys = {**KEYS, "DROPBOX_APP_SECRET": secret}
    with opened(Running(SETTINGS, given_keys), tmp_path) as target:
        with pytest.raises((Refused, Unreachable)) as raised:
            target.check()
        assert not any(value in str(raised.value) for value in given_keys.values() if len(value) > 1)


def test_a_netrc_does_not_replace_the_token(isolated: Path, target: Target) -> None:
    (isolated / ".netrc").write_text("default login somebody password else\n")
    target.put("x", b"1")
    assert target.get("x") == b"1"


def test_a_missing_permission_says_so(proxy: Proxy, target: Target) -> None:
    error = {".tag": "missing_scope", "required_scope": "files.content.write"}
    proxy.instead = _always(Reply(401, json.dumps({"error": error}).encode(), _JSON))
    with pytest.raises(Refused, match=r"missing_scope\); allow it in the app's settings"):
        target.put("x", b"1")


def test_a_dead_way_out_is_unreachable(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="refused"):
        target.put("x", b"1")


def test_an_untrusted_certificate_is_refused(
    service: tuple[FakeDropbox, Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del service
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name)
    with (
        opened(Running(SETTINGS, KEYS), tmp_path) as target,
        pytest.raises(Refused, match="not trusted; name its authority in SSL_CERT_FILE"),
    ):
        target.check()


def test_certificates_that_cannot_be_read_are_said(
    service: tuple[FakeDropbox, Proxy], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del service
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with opened(Running(SETTINGS, KEYS), tmp_path) as target, pytest.raises(Refused, match="REQUESTS_CA_BUNDLE"):
        target.check()


@pytest.mark.parametrize(
    ("settings", "given_keys", "named"),
    [(SETTINGS, {}, "DROPBOX_REFRESH_TOKEN"), ({**SETTINGS, "DROPBOX_APP_KEY": ""}, KEYS, "DROPBOX_APP_KEY")],
)
def test_what_is_not_set_is_named(
    settings: dict[str, str], given_keys: dict[str, str], named: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named), opened(Running(settings, given_keys), tmp_path):
        pass
