"""OneDrive beyond the contract: what Graph may answer, and what of it must not do harm."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.storage import names
from bitnet_core.storage.target import AlreadyThere, Nonsense, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets import onedrive
from bitnet_core.storage.targets.onedrive import _NAMES
from tests.storage.fakes.graph import CONTENT_HOST, FakeGraph, Refusal, _require_name
from tests.storage.stand import Running, opened
from tests.storage.stands.onedrive import KEYS, SETTINGS, faked
from tests.storage.tls_proxy import Proxy, Reply, Request


class World:
    def __init__(self, fake: FakeGraph, running: Proxy, target: Target) -> None:
        self.fake, self.running, self.target = fake, running, target

    def play(self, method: str, host: str, *replies: Reply) -> None:
        """Answer the next requests of this method to this host so; later ones by the fake."""
        left = list(replies)

        def instead(request: Request) -> Reply | None:
            return left.pop(0) if left and (request.method, request.host) == (method, host) else None

        self.running.instead = instead

    def names(self) -> set[str]:
        return {item.name for item in self.fake.items.values() if item.data is not None}


@pytest.fixture
def world(tmp_path: Path, isolated: Path) -> Iterator[World]:
    with faked(tmp_path) as (fake, running), opened(Running(SETTINGS, KEYS), isolated) as target:
        yield World(fake, running, target)


GRAPH = "graph.microsoft.com"


def said(status: int, code: str, **headers: str) -> Reply:
    return Reply(status, json.dumps({"error": {"code": code, "message": f"about {code}"}}).encode(), headers)


def page(*items: Any, **more: Any) -> Reply:
    return Reply(200, json.dumps({"value": list(items), **more}).encode())


# -- names -----------------------------------------------------------------------------------------------------
SEGMENTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="/\\"), min_size=1, max_size=12),
    st.sampled_from(
        ["CON", "nul.txt", "com1", "desktop.ini", ".lock", "a_VTI_b", " x ", "..x", "x. .", "~$a", "forms"]
    ),
)


@given(st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join))
def test_every_key_has_a_name_that_onedrive_takes(key: str) -> None:
    if names.fault(key):
        return
    name = _NAMES.escape(key)
    assert _NAMES.unescape(name) == key
    for segment in name.split("/"):
        _require_name(segment)


def test_the_fake_refuses_what_onedrive_refuses() -> None:
    for name in ("a:b", "CON", " a", "a ", "a.", "~$x", "x_vti_y", "desktop.ini", ".lock", "x" * 256):
        with pytest.raises(Refusal):
            _require_name(name)


def test_names_of_other_programs_are_no_objects(world: World) -> None:
    world.target.put("ours", b"1")
    world.play("GET", GRAPH, page({"name": "a=b", "size": 1, "file": {}}, {"name": "ours", "size": 1, "file": {}}))
    assert [one.key for one in world.target.list("")] == ["ours"]


def test_a_path_beyond_onedrives_longest_is_refused_before_anything_is_sent(world: World) -> None:
    with pytest.raises(Refused, match="too long for OneDrive; use a shorter"):
        world.target.put("?" * 150, b"1")
    assert len(world.fake.items) == 1


def test_upper_and_lower_case_are_one_object(world: World) -> None:
    world.target.put("A", b"1")
    assert world.target.get("a") == b"1"
    assert not world.target.limits.case_sensitive


# -- conflicts, and what must not be lost ---------------------------------------------------------------------
def test_deleting_the_name_of_a_folder_deletes_nothing(world: World) -> None:
    world.target.put("folder/x", b"1")
    world.target.delete("folder")
    assert world.target.get("folder/x") == b"1"


def test_a_folder_in_the_place_of_an_object_is_told(world: World) -> None:
    world.target.put("folder/x", b"1")
    for only_if_absent in (True, False):
        with pytest.raises(Refused, match="a folder has this name; remove it"):
            world.target.put("folder", b"2", only_if_absent=only_if_absent)


def test_a_conflict_about_a_folder_that_is_being_made_may_pass(world: World) -> None:
    for only_if_absent in (True, False):
        world.play("PUT", GRAPH, said(409, "nameAlreadyExists"))
        with pytest.raises(Unreachable):
            world.target.put("folder/x", b"1", only_if_absent=only_if_absent)
        world.target.put(f"folder/{only_if_absent}", b"1", only_if_absent=only_if_absent)


def test_half_a_surrogate_pair_is_no_id(world: World) -> None:
    world.play("GET", GRAPH, page(id="\ud800", size=1, file={}))
    with pytest.raises(Nonsense):
        world.target.delete("x")
    world.play("PUT", GRAPH, Reply(201, rb'{"id": "\ud800", "size": 7}'))
    with pytest.raises(Nonsense):
        world.target.put("x", b"1")


@pytest.mark.parametrize("wrong", [{"size": 2}, {"file": {"hashes": {"quickXorHash": "AAAA"}}}, {"size": "1"}])
def test_an_object_with_other_bytes_does_not_stay(world: World, wrong: dict[str, Any]) -> None:
    world.target.put("x", b"1")
    item = next(item for item in world.fake.items.values() if item.name == "x")
    described = {**world.fake._described(item), **wrong}
    world.play("PUT", GRAPH, Reply(201, json.dumps(described).encode()))
    with pytest.raises(Unreachable, match="other bytes"):
        world.target.put("x", b"1", only_if_absent=True)
    assert world.names() == set()


# -- tokens ----------------------------------------------------------------------------------------------------
def test_a_token_that_ends_is_renewed(world: World) -> None:
    world.target.put("x", b"1")
    world.fake.identity.access.clear()
    assert world.target.get("x") == b"1"


def test_a_login_that_ends_is_told(world: World) -> None:
    world.target.put("x", b"1")
    world.fake.identity.access.clear()
    world.fake.identity.refresh_tokens.clear()
    with pytest.raises(Refused, match="run `bitnet store login`") as refused:
        world.target.get("x")
    assert KEYS["ONEDRIVE_REFRESH_TOKEN"] not in str(refused.value)


def test_the_host_of_contents_gets_no_token(world: World) -> None:
    asked: list[Request] = []

    def instead(request: Request) -> Reply | None:
        asked.append(request)
        return None

    world.target.put("x", b"1")
    world.running.instead = instead
    world.target.get("x")
    assert [request.host for request in asked] == [GRAPH, CONTENT_HOST]
    assert "authorization" in asked[0].headers
    assert "authorization" not in asked[1].headers


# -- what Graph may answer -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (said(507, "quotaLimitReached"), "free space in OneDrive"),
        (said(403, "quotaLimitReached"), "free space in OneDrive"),
        (said(403, "accessDenied"), "allow the app Files.ReadWrite"),
        (said(400, "invalidRequest"), r"about invalidRequest.*; see what its message names"),
        (Reply(413, b"<html>too large"), "see what its message names"),
    ],
)
def test_a_refusal_says_what_to_do(world: World, reply: Reply, words: str) -> None:
    for call in (lambda: world.target.put("x", b"1"), lambda: world.target.put("x", b"1", only_if_absent=True)):
        world.play("PUT", GRAPH, reply)
        with pytest.raises(Refused, match=words):
            call()


@pytest.mark.parametrize("status", [408, 423, 429, 500, 502, 503, 504, 509])
def test_a_busy_service_may_be_asked_again(world: World, status: int) -> None:
    for method, call in (
        ("PUT", lambda: world.target.put("x", b"1")),
        ("GET", lambda: world.target.get("x")),
        ("GET", lambda: list(world.target.list(""))),
        ("GET", lambda: world.target.delete("x")),
        ("GET", world.target.check),
    ):
        world.play(method, GRAPH, said(status, "activityLimitReached", **{"Retry-After": "9"}))
        with pytest.raises(Unreachable) as busy:
            call()
        assert busy.value.after == 9


def test_a_cut_download_is_no_object(world: World) -> None:
    world.target.put("x", b"1234")
    world.play("GET", CONTENT_HOST, Reply(200, b"1234", cut=2))
    with pytest.raises(Unreachable):
        world.target.get("x")


@pytest.mark.parametrize(
    "link",
    ["https://evil.example/v1.0/x", "http://graph.microsoft.com/x", "https://graph.microsoft.com@evil.example/", 5],
)
def test_a_listing_is_not_followed_to_another_server(world: World, link: object) -> None:
    asked: list[str] = []

    def instead(request: Request) -> Reply | None:
        asked.append(request.host)
        return page(**{"@odata.nextLink": link}) if request.host == GRAPH else None

    world.running.instead = instead
    with pytest.raises(Refused, match="of another server"):
        list(world.target.list(""))
    assert set(asked) - {"login.microsoftonline.com"} == {GRAPH}


def test_a_listing_that_goes_round_ends(world: World) -> None:
    again = page(**{"@odata.nextLink": f"https://{GRAPH}/v1.0/me/drive/root/children?$skiptoken=1"})
    world.running.instead = lambda request: again if request.host == GRAPH else None
    with pytest.raises(Refused, match="without an end"):
        list(world.target.list(""))


@pytest.mark.parametrize("most", [8, 100_000])
def test_folders_in_folders_without_end_end(world: World, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(onedrive, "_MOST_PAGES", most)
    world.running.instead = lambda request: page({"name": "a" * 30, "folder": {}}) if request.host == GRAPH else None
    with pytest.raises(Refused, match="without an end") if most == 8 else contextlib.nullcontext():
        assert not list(world.target.list(""))


@pytest.mark.parametrize(
    "body",
    [
        b'{"value": [{"name": "", "folder": {}}]}',
        b'{"value": [{"name": "x", "file": {}, "size": -1}, {"name": "y", "file": {}, "size": "many"}]}',
        b'{"value": [{"name": "..", "folder": {}}, {"name": "a/b", "file": {}, "size": 1}]}',
        b'{"value": [{"name": "n", "size": 1}]}',
    ],
)  # fmt: skip
def test_what_others_have_there_is_no_object(world: World, body: bytes) -> None:
    world.running.instead = lambda request: Reply(200, body) if request.host == GRAPH else None
    assert not list(world.target.list(""))


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"id": 5, "file": 7}', b"[" * 60_000])
def test_no_answer_raises_anything_else(world: World, body: bytes) -> None:
    world.running.instead = lambda request: Reply(200, body) if request.host == GRAPH else None
    for call in (
        lambda: world.target.put("x", b"1"),
        lambda: world.target.put("x", b"1", only_if_absent=True),
        lambda: world.target.delete("x"),
        lambda: list(world.target.list("")),
        world.target.check,
    ):
        try:
            call()
        except (AlreadyThere, NoSuchObject, Refused, Unreachable):
            continue


# -- the place -------------------------------------------------------------------------------------------------
def test_the_free_space_is_the_quotas(world: World) -> None:
    world.target.put("x", b"1234")
    assert world.target.check().free_bytes == world.fake.total - 4
    world.fake.total = 4
    with pytest.raises(Refused, match="OneDrive is full; free space"):
        world.target.check()
    with pytest.raises(Refused, match="free space in OneDrive"):
        world.target.put("y", b"1")


def test_an_account_without_onedrive_is_told(world: World) -> None:
    world.play("GET", GRAPH, said(404, "ResourceNotFound"))
    with pytest.raises(Refused, match="open OneDrive once in a browser"):
        world.target.check()


def test_a_root_that_is_a_file_is_told(world: World, tmp_path: Path) -> None:
    world.target.put("x", b"1")
    with (
        opened(Running({**SETTINGS, "ONEDRIVE_ROOT": "BitNet/one/x"}, KEYS), tmp_path) as target,
        pytest.raises(Refused, match="is a file; set ONEDRIVE_ROOT"),
    ):
        target.check()


def test_the_whole_drive_may_be_the_root_and_no_other_folder(tmp_path: Path, world: World) -> None:
    with opened(Running({**SETTINGS, "ONEDRIVE_ROOT": "/"}, KEYS), tmp_path) as target:
        target.put("x", b"1")
        assert [one.key for one in target.list("")] == ["x"]
        assert target.check().free_bytes
    with (
        pytest.raises(Refused, match=r"ONEDRIVE_ROOT=/a/\.\./b can't be a folder"),
        opened(Running({**SETTINGS, "ONEDRIVE_ROOT": "/a/../b"}, KEYS), tmp_path),
    ):
        pass


def test_many_pages_are_one_listing(world: World) -> None:
    world.fake.page = 3
    for number in range(10):
        world.target.put(f"many/{number}", b"1")
    assert {one.key for one in world.target.list("")} == {f"many/{number}" for number in range(10)}
