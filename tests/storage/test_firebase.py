"""Google Cloud Storage as a target, beyond the contract: keys, statuses, checksums, and hostile replies."""

import base64
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.storage.target import AlreadyThere, Nonsense, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets import firebase
from tests.storage.fakes.google_tokens import TokenServer, service_account
from tests.storage.fakes.loopback import Loopback
from tests.storage.stand import Running, opened
from tests.storage.stands.firebase import emulator_at

KEY = "FIREBASE_CREDENTIALS_JSON"
SETTINGS = {"STORAGE_BACKEND": "firebase", "FIREBASE_STORAGE_BUCKET": "gs://bkt/"}
Reply = tuple[int, dict[str, str], bytes]


class Scripted(Loopback):
    """Google Cloud Storage that answers with the given replies in turn, and then with the last one again."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: list[Reply] = []
        self.asked: list[tuple[str, bytes]] = []
        self.tokens: list[str] = []

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> Reply:
        self.asked.append((f"{request.command} {request.path}", body))
        self.tokens.append(request.headers.get("Authorization", ""))
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]

    def will(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked.clear()


def said(status: int, value: Any, **headers: str) -> Reply:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return status, {"Content-Type": "application/json", **named}, json.dumps(value).encode()


def _page(items: object) -> dict[str, object]:
    return {"kind": "storage#objects", "items": items}


def fault(status: int, message: str, **headers: str) -> Reply:
    return said(status, {"error": {"code": status, "message": message}}, **headers)


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as server, emulator_at(server.port):
        yield server


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer() as tokens:
        yield tokens


@pytest.fixture
def target(server: Scripted, tmp_path: Path) -> Iterator[Target]:
    with opened(Running(SETTINGS), tmp_path) as target:
        yield target


def calls(target: Target) -> dict[str, Any]:
    return {
        "put": lambda: target.put("x", b"1"),
        "get": lambda: target.get("x"),
        "list": lambda: list(target.list("")),
        "delete": lambda: target.delete("x"),
        "check": target.check,
    }


@pytest.mark.parametrize("call", ["put", "get", "list", "delete", "check"])
@pytest.mark.parametrize(
    ("status", "message", "error", "end"),
    [
        (400, "Invalid argument", Refused, "; check FIREBASE_STORAGE_BUCKET and FIREBASE_CREDENTIALS_JSON."),
        (403, "bitnet@example does not have storage.objects access", Refused, "for the bucket."),
        (408, "Timeout", Unreachable, "."),
        (429, "Rate limit", Unreachable, "."),
        (500, "Backend error", Unreachable, "."),
        (503, "Unavailable", Unreachable, "."),
    ],
)
def test_a_status_is_told_once(
    server: Scripted, target: Target, call: str, status: int, message: str, error: type[BitnetError], end: str
) -> None:
    server.will(fault(status, message, Retry_After="17"))
    with pytest.raises(error) as raised:
        calls(target)[call]()
    assert f"HTTP {status}: {message}" in str(raised.value)
    assert str(raised.value).endswith(end)
    assert "http://" not in str(raised.value)
    assert len(server.asked) == 1
    if isinstance(raised.value, Unreachable):
        assert raised.value.after == 17


@pytest.mark.parametrize("call", ["put", "get", "list", "check"])
def test_a_missing_bucket_is_named(server: Scripted, target: Target, call: str) -> None:
    server.will(fault(404, "The specified bucket does not exist."))
    with pytest.raises(Refused, match=r"gs://bkt/ is not there .*; create it, or correct FIREBASE_STORAGE_BUCKET"):
        calls(target)[call]()


def test_missing_permissions_are_named(server: Scripted, target: Target) -> None:
    allowed = {"permissions": ["storage.objects.get", "storage.objects.list"]}
    server.will(said(200, {"kind": "storage#objects"}), said(200, allowed))
    with pytest.raises(Refused, match=r"permissions storage.objects.create, storage.objects.delete; give"):
        target.check()
    server.will(said(200, {"kind": "storage#objects"}), said(200, {"permissions": firebase._PERMISSIONS}))
    assert target.check().free_bytes is None


@pytest.mark.parametrize("size", [3, 9 << 20])
def test_an_upload_carries_a_checksum_and_the_condition(server: Scripted, target: Target, size: int) -> None:
    """Up to 8 MiB the SDK sends one request; above, it announces the object first, with its checksum."""
    data = b"a" * size
    checksum = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    done = {"name": "x", "size": str(size), "crc32c": checksum}
    server.will(said(200, done, Location=f"{server.url}upload?upload_id=capability"), said(200, done))
    target.put("x", data, only_if_absent=True)
    path, body = server.asked[0]
    assert "ifGenerationMatch=0" in path
    assert f'"crc32c": "{checksum}"'.encode() in body
    assert len(server.asked) == (1 if size < 8 << 20 else 2)


def test_the_address_of_an_upload_is_not_shown(server: Scripted, target: Target) -> None:
    server.will(said(200, {}, Location=f"{server.url}upload?upload_id=capability"), fault(400, "no"))
    with pytest.raises(Refused) as refused:
        target.put("x", b"a" * (9 << 20))
    assert "capability" not in str(refused.value)


def test_a_condition_that_fails_is_no_error_of_the_server(server: Scripted, target: Target) -> None:
    server.will(fault(412, "At least one of the pre-conditions you specified did not hold."))
    with pytest.raises(AlreadyThere, match="gs://bkt/x"):
        target.put("x", b"1", only_if_absent=True)


@pytest.mark.parametrize("call", ["put", "get", "list", "delete", "check"])
def test_a_condition_that_nobody_set_is_a_refusal(server: Scripted, target: Target, call: str) -> None:
    server.will(fault(412, "At least one of the pre-conditions you specified did not hold."))
    with pytest.raises(Refused, match="refuses the call"):
        calls(target)[call]()


def test_bytes_that_are_not_those_stored_are_not_returned(server: Scripted, target: Target) -> None:
    stored = base64.b64encode(google_crc32c.value(b"as it was").to_bytes(4, "big")).decode()
    server.will((200, {"X-Goog-Hash": f"crc32c={stored}"}, b"as it Was"))
    with pytest.raises(Unreachable, match="something else"):
        target.get("x")
    server.will((200, {"X-Goog-Hash": f"crc32c={stored}"}, b"as it was"))
    assert target.get("x") == b"as it was"


def test_a_body_that_is_cut_is_not_returned(server: Scripted, target: Target) -> None:
    server.will((200, {"Content-Length": "100"}, b"short"))
    with pytest.raises(Unreachable):
        target.get("x")


def test_a_body_is_bounded(server: Scripted, target: Target) -> None:
    server.will((200, {}, bytes(target.limits.object_bytes + 1)))
    with pytest.raises(Refused, match="larger"):
        target.get("x")


def test_a_compressed_body_is_not_unpacked(server: Scripted, target: Target) -> None:
    stored = base64.b64encode(google_crc32c.value(b"\x1f\x8b not really").to_bytes(4, "big")).decode()
    server.will((200, {"Content-Encoding": "gzip", "X-Goog-Hash": f"crc32c={stored}"}, b"\x1f\x8b not really"))
    assert target.get("x") == b"\x1f\x8b not really"


def test_a_listing_has_all_pages(server: Scripted, target: Target) -> None:
    server.will(
        said(
            200, {**_page([{"name": "a", "size": "1", "updated": "2026-11-27T17:00:00.5Z"}]), "nextPageToken": "p2"}
        ),
        said(200, {"kind": "storage#objects", "nextPageToken": "p3"}),
        said(200, _page([{"name": "b", "size": "2"}])),
    )
    assert [(one.key, one.size, one.modified) for one in target.list("")] == [("a", 1, 1795798800.5), ("b", 2, None)]


def test_objects_of_others_are_not_listed(server: Scripted, target: Target) -> None:
    """Firebase's console makes an object `folder/` for an empty folder."""
    server.will(said(200, _page([{"name": name, "size": "0"} for name in ("folder/", "a/../b", "a//b", "ours")])))
    assert [one.key for one in target.list("")] == ["ours"]


def test_a_listing_without_an_end_is_refused(
    server: Scripted, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firebase, "_MOST_PAGES", 5)
    server.will(said(200, {"kind": "storage#objects", "nextPageToken": "again"}))
    with pytest.raises(Refused, match="does not end"):
        list(target.list(""))


@pytest.mark.parametrize(
    "reply",
    [
        (200, {"Content-Type": "application/json"}, b"<html>a proxy"),
        (200, {"Content-Type": "application/json"}, b"[" * 100_000),
        *(said(200, value) for value in ([], None, "text", {}, *(_page(items) for items in (5, [5], [{}])))),
        *(said(200, _page([{"name": "x", "size": size}])) for size in ("many", None, [1])),
        said(200, _page([{"name": "x", "size": "1", "updated": "soon"}])),
    ],
)
def test_a_listing_of_nonsense_ends_in_a_sentence(server: Scripted, target: Target, reply: Reply) -> None:
    server.will(reply)
    with pytest.raises(Nonsense):
        list(target.list(""))


def test_a_dead_server_is_unreachable(server: Scripted, target: Target) -> None:
    server.__exit__()
    for call in calls(target).values():
        with pytest.raises(Unreachable, match=r"gs://bkt/ can't be reached"):
            call()


def test_a_server_that_wants_a_key_is_told_apart(server: Scripted, target: Target) -> None:
    server.will(fault(401, "Anonymous caller"))
    for call in calls(target).values():
        with pytest.raises(Refused, match="wants a key; set FIREBASE_CREDENTIALS_JSON"):
            call()


def test_a_key_that_is_refused_again_after_its_renewal(server: Scripted, tokens: TokenServer, tmp_path: Path) -> None:
    server.will(fault(401, "Invalid Credentials"))
    with opened(Running(SETTINGS), tmp_path, keys={KEY: json.dumps(tokens.known)}) as target:
        for call in calls(target).values():
            with pytest.raises(Refused, match=r"HTTP 401: Invalid Credentials.*; make a new one") as refused:
                call()
            assert "ya29" not in str(refused.value)


def test_a_token_is_renewed_when_it_is_refused(server: Scripted, tokens: TokenServer, tmp_path: Path) -> None:
    done = said(200, {"name": "x", "size": "1"})
    server.will(done, fault(401, "Invalid Credentials"), done)
    with opened(Running(SETTINGS), tmp_path, keys={KEY: json.dumps(tokens.known)}) as target:
        target.put("x", b"1")
        target.put("x", b"2")
    assert server.tokens == ["Bearer ya29.1", "Bearer ya29.1", "Bearer ya29.2"]


def test_a_revoked_key_is_refused(server: Scripted, tokens: TokenServer, tmp_path: Path) -> None:
    (file := tmp_path / "key.json").write_text(json.dumps(tokens.known))
    tokens.revoked = True
    with opened(Running(SETTINGS), tmp_path, keys={KEY: str(file)}) as target:
        for call in calls(target).values():
            with pytest.raises(Refused, match=r"invalid_grant.*; make a new one for FIREBASE_CREDENTIALS_JSON") as no:
                call()
            assert "PRIVATE KEY" not in str(no.value)
    assert not server.asked


@pytest.mark.parametrize("change", [{"private_key": "canary-0123"}, {"type": "canary-0123"}, {"private_key": None}])
def test_a_key_that_is_none_is_told_without_its_content(
    server: Scripted, tmp_path: Path, change: dict[str, Any]
) -> None:
    key = json.dumps(service_account("http://127.0.0.1:9/") | change)
    with pytest.raises(UsageError, match="not the key of a service account") as wrong:  # noqa: SIM117
        with opened(Running(SETTINGS), tmp_path, keys={KEY: key}):
            pass
    assert "canary" not in str(wrong.value)
    assert "PRIVATE" not in str(wrong.value)


def test_a_key_file_that_is_not_there_is_told(server: Scripted, tmp_path: Path) -> None:
    for path in (tmp_path / "missing.json", tmp_path):
        with (
            pytest.raises(UsageError, match="can't be read"),
            opened(Running(SETTINGS), tmp_path, keys={KEY: str(path)}),
        ):
            pass


def test_without_any_key_both_ways_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "STORAGE_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    with pytest.raises(Refused, match=r"gcloud auth application-default login.*bitnet keys set"):  # noqa: SIM117
        with opened(Running(SETTINGS), tmp_path):
            pass


def test_what_is_not_there_is_said(server: Scripted, target: Target) -> None:
    server.will(fault(404, "No such object: bkt/x"))
    with pytest.raises(NoSuchObject):
        target.get("x")
    target.delete("x")


def test_an_answer_that_is_cut_in_its_head_is_not_an_empty_object(target: Target, server: Scripted) -> None:
    """Python's http.client takes the end of the connection for the end of the headers."""

    class CutHead(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Le")
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    server._server.RequestHandlerClass = CutHead
    with pytest.raises(Unreachable):
        target.get("x")
