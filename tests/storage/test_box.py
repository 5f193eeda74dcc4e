"""What Box may answer, and what the target makes of it."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given

from bitnet_core.errors import BitnetError
from bitnet_core.storage.clients import box_client, sdk_session
from bitnet_core.storage.target import AlreadyThere, Nonsense, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets.box import _NAMES
from tests.storage.fakes.box import PERMISSIONS, FakeBox, fault_of
from tests.storage.stand import Running, opened
from tests.storage.stands.box import DEVELOPER, SETTINGS, faked
from tests.storage.test_escaping import keys
from tests.storage.tls_proxy import Proxy, Reply, Request

_JSON = {"Content-Type": "application/json"}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[FakeBox, Proxy]]:
    with faked(tmp_path / "fake") as both:
        yield both


@pytest.fixture
def fake(service: tuple[FakeBox, Proxy]) -> FakeBox:
    return service[0]


@pytest.fixture
def proxy(service: tuple[FakeBox, Proxy]) -> Proxy:
    return service[1]


@pytest.fixture
def target(service: tuple[FakeBox, Proxy], tmp_path: Path) -> Iterator[Target]:
    with opened(Running(SETTINGS, DEVELOPER), tmp_path) as one:
        yield one
    assert not service[1].faults


@pytest.fixture
def other(service: tuple[FakeBox, Proxy], tmp_path: Path) -> Iterator[Target]:
    """The same folder, as another process sees it."""
    with opened(Running(SETTINGS, DEVELOPER), tmp_path) as one:
        yield one
    assert not service[1].faults


def _always(reply: Reply) -> Callable[[Request], Reply | None]:
    return lambda _: reply


def _named(fake: FakeBox, name: str) -> str:
    return next(item.id for item in fake.items.values() if item.name == name)


@given(keys())
def test_an_escaped_name_is_one_that_box_takes(key: str) -> None:
    name = _NAMES.escape(key)
    assert _NAMES.unescape(name) == key
    assert {fault_of(segment) for segment in name.split("/")} <= {"", "item_name_too_long"}


def test_a_listing_of_many_pages_is_whole_and_skips_what_is_not_ours(fake: FakeBox, target: Target) -> None:
    fake.page = 3
    for number in range(10):
        target.put(f"folder/{number}", b"1")
    folder = _named(fake, "folder")
    for name in ("=zz", "=0A"):
        fake._add(name, folder, b"other")
    assert {one.key for one in target.list("folder/")} == {f"folder/{number}" for number in range(10)}


def test_the_root_is_the_folder_of_the_settings(fake: FakeBox, target: Target, tmp_path: Path) -> None:
    target.put("inner/x", b"1")
    with opened(Running({**SETTINGS, "BOX_ROOT_FOLDER_ID": _named(fake, "inner")}, DEVELOPER), tmp_path) as inner:
        assert [one.key for one in inner.list("")] == ["x"]
        assert inner.check().free_bytes == fake.space - 1


def test_what_another_process_did_is_seen(target: Target, other: Target) -> None:
    target.put("folder/x", b"1")
    assert other.get("folder/x") == b"1"
    other.delete("folder/x")
    with pytest.raises(NoSuchObject):
        target.get("folder/x")
    other.put("folder/x", b"2", only_if_absent=True)
    assert target.get("folder/x") == b"2"
    with pytest.raises(AlreadyThere):
        target.put("folder/x", b"3", only_if_absent=True)
    target.put("folder/x", b"4")
    assert other.get("folder/x") == b"4"
    target.delete("folder/x")
    other.delete("folder/x")
    assert not list(other.list(""))


def test_folders_that_were_removed_are_made_again(fake: FakeBox, target: Target) -> None:
    for call in (
        lambda: target.put("a/b/x", b"1"),
        lambda: target.put("a/b/y", b"2", only_if_absent=True),
        lambda: target.delete("a/b/x"),
        lambda: list(target.list("a/b/")),
    ):
        target.put("a/b/x", b"0")
        fake.remove(_named(fake, "a"))
        call()
    assert not list(target.list(""))
    target.put("a/b/x", b"3")
    assert target.get("a/b/x") == b"3"
    assert [item.name for item in fake.items.values()].count("a") == 1


def test_a_put_in_the_place_of_an_older_object_is_a_new_version(fake: FakeBox, target: Target, other: Target) -> None:
    target.put("x", b"1")
    before = _named(fake, "x")
    other.put("x", b"2")
    target.put("x", b"3")
    assert _named(fake, "x") == before
    assert fake.items[before].etag == 2


def test_a_key_that_is_a_folder_removes_nothing(target: Target) -> None:
    target.put("folder/x", b"1")
    target.delete("folder")
    assert target.get("folder/x") == b"1"
    with pytest.raises(NoSuchObject):
        target.get("folder")
    with pytest.raises(Refused, match=r"item_name_in_use.*; remove what is in the way"):
        target.put("folder", b"1", only_if_absent=True)
    with pytest.raises(Refused, match="item_name_in_use"):
        target.put("folder/x/y", b"1")
    assert target.get("folder/x") == b"1"


def test_many_writers_make_one_folder(fake: FakeBox, target: Target) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: target.put(f"new/deep/{number}", b"1"), range(16)))
    assert sorted(item.name for item in fake.items.values() if item.data is None) == ["All Files", "deep", "new"]


def test_bytes_that_change_on_the_way_are_not_stored(proxy: Proxy, target: Target, fake: FakeBox) -> None:
    def flip(request: Request) -> Reply | None:
        if not request.path.endswith("files/content"):
            return None
        changed = {**vars(request), "body": request.body.replace(b"12345", b"12346")}
        return fake.answer(Request(**changed))

    proxy.instead = flip
    with pytest.raises(Unreachable, match="bad_digest"):
        target.put("x", b"12345")
    assert not list(target.list(""))


def test_a_full_account_is_refused(fake: FakeBox, target: Target) -> None:
    fake.space = 10
    target.put("x", b"12345")
    assert target.check().free_bytes == 5
    with pytest.raises(Refused, match=r"storage_limit_exceeded.*; free some space"):
        target.put("y", b"123456")


def test_a_root_that_is_not_there_or_not_writable_is_refused(proxy: Proxy, target: Target, tmp_path: Path) -> None:
    with opened(Running({**SETTINGS, "BOX_ROOT_FOLDER_ID": "77"}, DEVELOPER), tmp_path) as missing:
        for call in (missing.check, lambda: missing.put("x", b"1"), lambda: list(missing.list(""))):
            with pytest.raises(Refused, match=r"404.*; check BOX_ROOT_FOLDER_ID"):
                call()
    answer = {"type": "folder", "id": "0", "permissions": {**dict.fromkeys(PERMISSIONS, True), "can_upload": False}}
    proxy.instead = _always(Reply(200, json.dumps(answer).encode(), _JSON))
    with pytest.raises(Refused, match="let you write"):
        target.check()


@pytest.mark.parametrize("status", [202, 429, 500, 503])
def test_a_busy_server_is_unreachable_once_and_says_how_long(proxy: Proxy, target: Target, status: int) -> None:
    asked = []

    def busy(request: Request) -> Reply:
        asked.append(request.path)
        return Reply(status, b"busy", {"Retry-After": "7"})

    proxy.instead = busy
    with pytest.raises(Unreachable) as raised:
        target.put("x", b"1")
    assert raised.value.after == 7
    assert len(asked) == 1


def test_a_reserved_name_is_unreachable(proxy: Proxy, target: Target) -> None:
    proxy.instead = _always(Reply(409, b'{"code": "name_temporarily_reserved"}', _JSON))
    with pytest.raises(Unreachable, match="name_temporarily_reserved"):
        target.put("x", b"1")


_ENTRY = {"type": "file", "id": "5", "name": "x", "size": 1, "modified_at": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>a portal</html>", {"Content-Type": "text/html"}),
        Reply(200, b"[" * 100_000, _JSON),
        Reply(200, b'{"entries": 3}', _JSON),
        Reply(200, b"[1]", _JSON),
        *(
            Reply(200, json.dumps({"entries": [{**_ENTRY, **wrong}]}).encode(), _JSON)
            for wrong in (
                {"id": "../../2.0/x"},
                {"id": 5},
                {"name": None},
                {"size": "many"},
                {"size": -1},
                {"type": []},
            )
        ),
        Reply(404, b'{"code": 3, "context_info": [], "message": ["\\u001b[31m"]}', _JSON),
        Reply(409, b'{"code": "item_name_in_use", "context_info": {"conflicts": [[]]}}', _JSON),
        Reply(
            409, b'{"code": "item_name_in_use", "context_info": {"conflicts": {"type": "file", "id": "../x"}}}', _JSON
        ),
        Reply(409, b"not json", _JSON),
        Reply(401, b""),
        Reply(403, b"[]", _JSON),
        Reply(418, b"teapot"),
        Reply(200, b"x" * 100, {"Content-Type": "application/json"}, cut=50),
    ],
)
def test_hostile_replies_end_in_a_sentence(proxy: Proxy, target: Target, reply: Reply) -> None:
    proxy.instead = _always(reply)
    for call in (
        target.check,
        lambda: target.put("x", b"1"),
        lambda: target.put("a/x", b"1"),
        lambda: target.get("x"),
        lambda: list(target.list("")),
        lambda: target.delete("x"),
    ):
        try:
            call()
        except BitnetError as error:
            assert isinstance(error, (Refused, Unreachable, NoSuchObject))
            assert str(error).endswith(".") and str(error).isprintable()


def test_hostile_ids_are_never_asked_for(fake: FakeBox, proxy: Proxy, target: Target) -> None:
    entry = {**_ENTRY, "id": "../users/me"}
    proxy.instead = _always(Reply(200, json.dumps({"entries": [entry]}).encode(), _JSON))
    with pytest.raises(Nonsense, match="not a reply of its API"):
        target.get("x")
    assert not fake.log


def test_listings_that_do_not_end_are_refused(proxy: Proxy, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_client, "_MOST_PAGES", 5)
    proxy.instead = _always(Reply(200, b'{"entries": [], "next_marker": "again"}', _JSON))
    with pytest.raises(Refused, match="does not end"):
        list(target.list(""))


def test_a_folder_in_itself_ends(proxy: Proxy, target: Target) -> None:
    asked = []

    def itself(request: Request) -> Reply:
        asked.append(request.path)
        return Reply(200, json.dumps({"entries": [{**_ENTRY, "type": "folder", "name": "f"}]}).encode(), _JSON)

    proxy.instead = itself
    assert not list(target.list(""))
    assert len(asked) == 2


def test_a_body_without_end_is_refused(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    target.put("x", b"1" * 2000)
    monkeypatch.setattr(sdk_session, "MOST_BYTES", 1000)
    with pytest.raises(Refused, match="more than was asked for"):
        target.get("x")


def test_a_download_that_is_cut_is_unreachable(proxy: Proxy, target: Target) -> None:
    target.put("x", b"12345")
    proxy.instead = lambda request: Reply(body=b"12345", cut=2) if request.host == "dl.boxcloud.com" else None
    with pytest.raises(Unreachable, match="boxcloud") as raised:
        target.get("x")
    assert "/d/1/" not in str(raised.value)
