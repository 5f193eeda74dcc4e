"""WebDAV: what the contract does not ask: cut connections, hostile listings, quota, and how servers say no."""

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.storage.clients import multistatus
from bitnet_core.storage.target import AlreadyThere, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets import webdav as module
from tests.storage.cutting_proxy import Cut, cutting_proxy, planned, random_cuts
from tests.storage.fakes.server import Reply, Request, serving
from tests.storage.stand import Stand, opened
from tests.storage.stands import nextcloud, webdav

SERVERS = [*webdav.STANDS, *nextcloud.STANDS]
ROOT = "/dav/root/"


@pytest.fixture(scope="module", params=SERVERS, ids=lambda stand: stand.name)
def stand(request: pytest.FixtureRequest) -> Stand:
    chosen: Stand = request.param
    if why := chosen.missing():
        pytest.skip(f"{chosen.name}: {why}")
    return chosen


@contextlib.contextmanager
def _answered_by(answer: Callable[[Request], Reply], folder: Path, **other: str) -> Iterator[Target]:
    with serving(answer) as port, opened(webdav.running(port, root="root"), folder, other) as target:
        yield target


def _listing(*responses: str, head: str = "") -> Reply:
    body = f'<?xml version="1.0"?>{head}<d:multistatus xmlns:d="DAV:">{"".join(responses)}</d:multistatus>'
    return Reply(207, body.encode(), {"Content-Type": "application/xml"})


def _member(href: str, properties: str = "", folder: bool = False) -> str:
    kind = "<d:collection/>" if folder else ""
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:resourcetype>{kind}</d:resourcetype>"
        f"{properties}</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )


def _file(href: str, size: str = "3") -> str:
    return _member(href, f"<d:getcontentlength>{size}</d:getcontentlength>")


# -- cut connections -------------------------------------------------------------------------------------
def test_a_put_that_is_cut_leaves_nothing_under_its_name(tmp_path: Path, stand: Stand) -> None:
    older, newer = random.Random(1).randbytes(300_000), random.Random(2).randbytes(1_000_000)
    with stand.start(tmp_path) as started, opened(started, tmp_path) as direct:
        direct.put("kept", older)
        assert started.through
        for after in (1, 200, 2_000, 100_000, 700_000, 999_990):
            for key in ("new", "kept"):
                with cutting_proxy(started.port, planned([Cut(after)])) as proxy:
                    there = started.through(proxy.port)
                    with opened(started, tmp_path, there) as target, pytest.raises(Unreachable):
                        target.put(key, newer)
                    assert len(proxy.cuts) == 1
        with pytest.raises(NoSuchObject):
            direct.get("new")
        assert direct.get("kept") == older
        assert {one.key for one in direct.list("") if not one.key.startswith("_temp/")} == {"kept"}


def test_whatever_is_cut_objects_are_whole(tmp_path: Path, stand: Stand) -> None:
    contents = [random.Random(number).randbytes(200_000) for number in range(12)]
    with stand.start(tmp_path) as started, opened(started, tmp_path) as direct:
        assert started.through
        with cutting_proxy(started.port, random_cuts(7, share=0.6, most_bytes=400_000)) as proxy:
            there = started.through(proxy.port)
            for number, data in enumerate(contents):
                while True:
                    with opened(started, tmp_path, there) as target, contextlib.suppress(Unreachable):
                        target.put(f"{number}", data)
                        assert target.get(f"{number}") == data
                        break
                    with contextlib.suppress(NoSuchObject):
                        assert direct.get(f"{number}") == data
            assert proxy.cuts
        assert {one.key for one in direct.list("") if "/" not in one.key} == {f"{one}" for one in range(12)}


# -- listings --------------------------------------------------------------------------------------------
def test_a_listing_takes_every_spelling_of_an_href_and_no_other_place(tmp_path: Path) -> None:
    hrefs = [
        ROOT, "/dav/root/pl%61in", "http://127.0.0.1:9/dav/root/absolute", "relative", "./dotted", "/dav/root/%C3%A9",
        "/dav/root/e%CC%81%3d3D", "http://elsewhere.example/dav/root/foreign", "//elsewhere.example/dav/root/f2",
        "/dav/root/%2e%2e/up", "/dav/root/..", "/dav/root/sub/deeper", "/dav/other/x", "/dav/root/slash%2Finside",
        "/dav/root/%FF", "/dav/root/a%00b", "http://[", "mailto:x", "/dav/root/=zz",
    ]  # fmt: skip
    with _answered_by(lambda _: _listing(*map(_file, hrefs)), tmp_path) as target:
        found = sorted(one.key for one in target.list(""))
    assert found == sorted(["plain", "absolute", "relative", "dotted", "é", "é="])


def test_a_folder_that_contains_itself_ends(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        return _listing(
            _member(request.path, folder=True), _member("/dav/root", folder=True), _member("..", folder=True),
            _member(f"{request.path}again/", folder=True), _file(f"{request.path}file"),
        )  # fmt: skip

    with _answered_by(answer, tmp_path) as target:
        assert 10 < len(list(target.list(""))) < 1000


@pytest.mark.parametrize("root", ["", "/new"])
def test_the_servers_own_root_is_a_folder_like_others(root: str, tmp_path: Path) -> None:
    """It has no name, and before the first push nothing is in it."""

    def answer(request: Request) -> Reply:
        there = request.method == "PROPFIND" and request.path == "/"
        return _listing(_member("/", folder=True)) if there else Reply(404)

    with serving(answer) as port, opened(webdav.running(port, path="", root=root), tmp_path) as target:
        assert target.check().free_bytes is None
        assert not list(target.list(""))


BOMB = '<!DOCTYPE b [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "reply",
    [
        _listing(_file(ROOT), head=BOMB),
        Reply(207, b"<a>" * 100_000),
        Reply(207, b"not xml"),
        Reply(207, b""),
        Reply(207, b"<html/>"),
        Reply(207, b"\xff\xfe\x00"),
        _listing(),
        _listing(_file("/elsewhere/")),
        Reply(200, b"<html>Sign in</html>"),
        Reply(405),
        Reply(403),
        Reply(302, b"", {"Location": "/login"}),
    ],
)
def test_what_is_not_a_listing_is_refused_in_a_sentence(reply: Reply, tmp_path: Path) -> None:
    with _answered_by(lambda request: reply if request.method == "PROPFIND" else Reply(200), tmp_path) as target:
        for call in (lambda: list(target.list("")), target.check):
            with pytest.raises(Refused) as refused:
                call()
            assert str(refused.value).endswith(".") and ";" in str(refused.value)


@pytest.mark.parametrize("size", ["", "-1", "1e3", "9" * 5000, "٣"])
def test_a_file_without_a_size_is_not_an_object(size: str, tmp_path: Path) -> None:
    with _answered_by(lambda _: _listing(_member(ROOT, folder=True), _file("x", size)), tmp_path) as target:
        assert not list(target.list(""))


@pytest.mark.parametrize("quota", ["-3", "-1", "", "x", "1" * 40])
def test_a_quota_that_is_not_known_is_none(quota: str, tmp_path: Path) -> None:
    said = _member(ROOT, f"<d:quota-available-bytes>{quota}</d:quota-available-bytes>", folder=True)
    with _answered_by(lambda _: _listing(said), tmp_path) as target:
        assert target.check().free_bytes is None


def test_the_quota_is_told_and_a_full_one_refused(tmp_path: Path) -> None:
    free = ["5000", "0"]
    said = "<d:quota-available-bytes>{}</d:quota-available-bytes>"
    with _answered_by(lambda _: _listing(_member(ROOT, said.format(free.pop(0)), folder=True)), tmp_path) as target:
        assert target.check().free_bytes == 5000
        with pytest.raises(Refused, match="no space"):
            target.check()


def test_dates_that_are_none_are_none() -> None:
    for date in ("", "yesterday", "Fri, 99 Nov 2026 17:00:00 GMT", "Fri, 27 Nov 999999 17:00:00 GMT"):
        body = _listing(_member("x", f"<d:getlastmodified>{date}</d:getlastmodified>")).body
        assert multistatus.members(body)[0].modified is None


# -- how servers say no ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "status", "expected"),
    [
        ("PUT", 403, Refused), ("PUT", 413, Refused), ("PUT", 507, Refused), ("PUT", 423, Unreachable),
        ("PUT", 429, Unreachable), ("PUT", 503, Unreachable), ("PUT", 401, Refused), ("PUT", 302, Refused),
        ("MOVE", 403, Refused), ("MOVE", 404, Unreachable), ("MOVE", 409, Refused), ("MOVE", 412, AlreadyThere),
        ("MOVE", 423, Unreachable), ("MOVE", 502, Unreachable), ("MOVE", 507, Refused), ("MOVE", 200, Refused),
        ("MKCOL", 403, Refused), ("MKCOL", 409, Refused), ("MKCOL", 507, Refused),
    ],
)  # fmt: skip
def test_a_put_fails_by_the_servers_status(
    method: str, status: int, expected: type[BitnetError], tmp_path: Path
) -> None:
    deleted = []

    def answer(request: Request) -> Reply:
        if request.method == "DELETE":
            deleted.append(request.path)
        if request.method == method:
            return Reply(status, b"<h1>no</h1>", {"Retry-After": "9"})
        return Reply(404 if request.method in ("PROPFIND", "HEAD") else 201)

    with _answered_by(answer, tmp_path) as target:
        with pytest.raises(expected) as raised:
            target.put("folder/x", b"1", only_if_absent=True)
        assert deleted, "the temporary object is left"
        assert webdav.PASSWORD not in str(raised.value)
        if isinstance(raised.value, Unreachable) and status in (423, 429, 503):
            assert raised.value.after == 9


def test_a_claim_that_a_dead_writer_left_ends(tmp_path: Path, stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLAIM_PAUSE", 0.0)
    with stand.start(tmp_path) as started, opened(started, tmp_path) as target:
        assert isinstance(target, module.DavTarget)
        with target._claimed(target._path("x")), contextlib.suppress(KeyError):
            target.put("x", b"1", only_if_absent=True)
        assert target.get("x") == b"1"
        with target._claimed(target._path("x")), pytest.raises(AlreadyThere):
            target.put("x", b"2", only_if_absent=True)


def test_folders_are_made_again_when_someone_removed_them(tmp_path: Path, stand: Stand) -> None:
    with stand.start(tmp_path) as started, opened(started, tmp_path) as one, opened(started, tmp_path) as other:
        one.put("a/b/x", b"1")
        other._dav.send("DELETE", other._path("a/"))  # type: ignore[attr-defined]
        other._dav.send("DELETE", other._path("_temp/"))  # type: ignore[attr-defined]
        one.put("a/b/x", b"2", only_if_absent=True)
        assert one.get("a/b/x") == b"2"


def test_a_server_that_takes_its_own_address_for_anothers_gets_a_path(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        if request.method == "MOVE":
            return Reply(201 if request.headers["destination"].startswith("/dav/root/%C3%A9") else 502)
        return Reply(201)

    with _answered_by(answer, tmp_path) as target:
        target.put("é", b"1")


def test_a_folder_is_not_an_object(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        if request.path.endswith("/"):
            return Reply(200, b"Index of /")
        return Reply(301, b"", {"Location": f"{request.path}/"})

    with _answered_by(answer, tmp_path) as target, pytest.raises(NoSuchObject):
        target.get("folder")


def test_an_address_with_a_password_is_refused_without_showing_it(tmp_path: Path) -> None:
    given = {"STORAGE_BACKEND": "webdav", "WEBDAV_URL": "https://alice:hush@dav.example/files"}
    with pytest.raises(UsageError) as refused, opened(webdav.running(1), tmp_path, given):
        pass
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("address", ["dav.example/files", "127.0.0.1:8080", "ftp://dav.example", "http://"])
@pytest.mark.parametrize("backend", ["webdav", "nextcloud"])
def test_an_address_that_is_none_is_told_with_its_setting(backend: str, address: str, tmp_path: Path) -> None:
    name = "WEBDAV_URL" if backend == "webdav" else "NC_WEBDAV_URL"
    running = webdav.running(1) if backend == "webdav" else nextcloud.running(1)
    with pytest.raises(UsageError, match=rf"^{name} is not an http"), opened(running, tmp_path, {name: address}):
        pass


@pytest.mark.parametrize("body", ["<h1>no entry</h1>", "", "<h1></h1>"])
def test_what_a_page_says_twice_is_told_once(body: str, tmp_path: Path) -> None:
    page = f"<html>\n<HEAD><title>no entry</title></HEAD>\n<body>{body}</body></html>".encode()
    with _answered_by(lambda _: Reply(401, page), tmp_path) as target, pytest.raises(Refused) as refused:
        target.check()
    assert "(HTTP 401: no entry)" in str(refused.value)


def test_https_where_a_server_speaks_http_is_told(tmp_path: Path) -> None:
    with (
        serving(lambda _: Reply(200)) as port,
        opened(webdav.running(port), tmp_path, {"WEBDAV_URL": f"https://127.0.0.1:{port}"}) as target,
        pytest.raises(Unreachable, match="; it may speak http, so check the beginning of its address"),
    ):
        target.check()


def test_a_user_without_a_password_is_told_which_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="WEBDAV_PASSWORD is not set"), opened(webdav.running(1), tmp_path, keys={}):
        pass
    with opened(webdav.running(1), tmp_path, {"WEBDAV_USERNAME": ""}, keys={}) as anonymous:
        assert anonymous.name == "webdav"


def test_a_locked_file_is_tried_again_later(tmp_path: Path) -> None:
    if why := nextcloud.STANDS[0].missing():
        pytest.skip(why)
    with webdav.rclone_server(tmp_path, nextcloud.HOME) as behind:
        cloud = nextcloud.Nextcloud(behind, nextcloud.HOME)
        with serving(cloud.answer) as port, opened(nextcloud.running(port), tmp_path) as target:
            target.put("x", b"1")
            cloud.locked = 1
            with pytest.raises(Unreachable, match="Locked"):
                target.put("x", b"2")
            assert target.get("x") == b"1"
            with pytest.raises(Refused, match=r"must not end with \.part"):
                target.put("y.part", b"2")
            assert target.check().free_bytes is None
            cloud.quota = b"123456"
            assert target.check().free_bytes == 123456


def test_a_folder_of_millions_of_elements_is_refused_before_they_take_a_gigabyte() -> None:
    body = b'<D:multistatus xmlns:D="DAV:">' + b"<a/>" * ((1 << 20) + 1) + b"</D:multistatus>"
    with pytest.raises(ValueError, match="too many"):
        multistatus.members(body)
