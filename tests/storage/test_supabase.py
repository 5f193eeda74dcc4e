"""Supabase: what the contract does not ask: errors inside HTTP 400, patterns, pages, limits, hostile replies."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.storage import names
from bitnet_core.storage.catalog import KINDS
from bitnet_core.storage.target import AlreadyThere, Nonsense, NoSuchObject, Refused, Target, Unreachable
from bitnet_core.storage.targets import supabase as module
from tests.storage.cutting_proxy import Cut, cutting_proxy, planned
from tests.storage.fakes.scripted import Reply as Scripted
from tests.storage.fakes.scripted import scripted
from tests.storage.fakes.server import Reply, serving
from tests.storage.fakes.supabase import _KEY, Supabase, error, reply
from tests.storage.stand import opened
from tests.storage.stands.supabase import KEY, running


@pytest.fixture
def service() -> Supabase:
    return Supabase("runs of mine", KEY)


@pytest.fixture
def target(service: Supabase, tmp_path: Path) -> Iterator[Target]:
    with _of(service, tmp_path) as found:
        yield found


@contextlib.contextmanager
def _of(service: Supabase, folder: Path, **keys: str) -> Iterator[Target]:
    with serving(service.answer) as port, opened(running(port), folder, keys=keys or None) as found:
        yield found


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (error(409, "Duplicate", "The resource already exists"), AlreadyThere),
        (Reply(409, b'{"statusCode":"409","error":"Duplicate","message":"already exists"}'), AlreadyThere),
        (error(403, "Unauthorized", "new row violates row-level security policy"), Refused),
        (error(403, "Unauthorized", "jwt expired"), Refused),
        (error(400, "InvalidJWT", "Invalid Compact JWS"), Refused),
        (error(404, "Bucket not found", "Bucket not found"), Refused),
        (error(413, "Payload too large", "The object exceeded the maximum allowed size"), Refused),
        (error(415, "invalid_mime_type", "mime type not supported"), Refused),
        (error(423, "ResourceLocked", "The resource is locked"), Unreachable),
        (error(429, "SlowDown", "Too many requests"), Unreachable),
        (error(500, "Internal", "Internal Server Error"), Unreachable),
        (error(544, "DatabaseTimeout", "The connection to the database timed out"), Unreachable),
        (Reply(503, b"<html>", {"Retry-After": "4"}), Unreachable),
        (Reply(400, b"[" * 9999), Refused),
        (Reply(400, b'{"statusCode":[],"error":{}}'), Refused),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), Unreachable),
        (Reply(204), Refused),
    ],
)
def test_an_upload_fails_by_the_status_that_is_meant(
    service: Supabase, target: Target, reply: Reply, expected: type[BitnetError]
) -> None:
    service.fail = [reply]
    with pytest.raises(expected) as raised:
        target.put("x", b"1", only_if_absent=True)
    assert KEY not in str(raised.value)
    if expected is Refused:
        assert ";" in str(raised.value) and str(raised.value).endswith(".")


def test_a_missing_object_is_not_a_missing_bucket(service: Supabase, target: Target) -> None:
    with pytest.raises(NoSuchObject):
        target.get("x")
    service.bucket["name"] = "another"
    for call in (lambda: target.get("x"), target.check, lambda: list(target.list("")), lambda: target.delete("x")):
        with pytest.raises(Refused, match="SUPABASE_BUCKET"):
            call()


def test_a_bucket_that_is_not_there_is_created_private_and_once(service: Supabase, target: Target) -> None:
    assert isinstance(target, module.SupabaseTarget)
    service.bucket |= {"name": "another", "public": True}
    with pytest.raises(Refused, match=KINDS["supabase"].lacks):
        target.check()
    for _ in range(2):
        target.create_bucket()
        assert not target.check().note
    service.fail = [error(403, "Unauthorized", "new row violates row-level security policy")]
    with pytest.raises(Refused, match="SUPABASE_SERVICE_ROLE_KEY"):
        target.create_bucket()


def test_the_service_roles_key_comes_first_and_one_is_needed(service: Supabase, tmp_path: Path) -> None:
    service.key = "anon-key"
    with _of(service, tmp_path, SUPABASE_ANON_KEY="anon-key") as target:
        target.check()
    both = {"SUPABASE_ANON_KEY": "anon-key", "SUPABASE_SERVICE_ROLE_KEY": "role"}
    with _of(service, tmp_path, **both) as target, pytest.raises(Refused, match="SUPABASE_SERVICE_ROLE_KEY"):
        target.check()
    with pytest.raises(UsageError, match="bitnet keys set"), _of(service, tmp_path, SUPABASE_ANON_KEY=""):
        pass


def test_folders_that_match_anothers_pattern_are_apart(target: Target) -> None:
    target.put("run_1/a_b.bin", b"1")
    target.put("run-1/other", b"22")
    target.put("runs1/third", b"333")
    assert {(one.key, one.size) for one in target.list("run_1/")} == {("run_1/a_b.bin", 1)}
    assert len(list(target.list(""))) == 3


def test_other_programs_objects_are_not_listed(service: Supabase, target: Target) -> None:
    target.put("mine", b"1")
    for key in ("art/=zz", "art/a_folder/x", "art/=2E=2E/x", "beside", "art/=00"):
        service.objects[key] = (b"?", "2026-11-27T10:00:00+00:00")
    assert [one.key for one in target.list("")] == ["mine"]


def test_a_service_that_repeats_its_page_ends(service: Supabase, target: Target) -> None:
    page = reply([{"name": f"{number}", "id": "1", "metadata": {"size": "?"}} for number in range(100)])
    service.fail = [page] * 5
    assert len(list(target.list(""))) == 100
    assert len(service.fail) == 3


@pytest.mark.parametrize("said", [{}, None, "x", [1], [{"name": 1}], [{}]])
def test_what_is_not_a_listing_is_told(service: Supabase, target: Target, said: object) -> None:
    service.fail = [reply(said)]
    with pytest.raises(Nonsense):
        list(target.list(""))


def test_folders_without_end_end(service: Supabase, target: Target) -> None:
    service.fail = [reply([{"name": "again", "id": None}])] * 2000
    assert not list(target.list(""))
    assert len(service.fail) > 1000


def test_a_bucket_that_can_not_hold_parts_is_refused(service: Supabase, target: Target) -> None:
    for wrong, words in (({"file_size_limit": 6_000_000}, "6 MB"), ({"allowed_mime_types": ["image/png"]}, "octet")):
        service.bucket |= {"file_size_limit": None, "allowed_mime_types": None, **wrong}
        with pytest.raises(Refused, match=words):
            target.check()
    service.bucket |= {"file_size_limit": 50_000_000, "allowed_mime_types": None, "public": True}
    assert "public" in target.check().note


def test_a_cut_upload_is_not_there(service: Supabase, tmp_path: Path) -> None:
    with serving(service.answer) as port, opened(running(port), tmp_path) as direct:
        for after in (1, 300, 50_000, 100_000):
            with cutting_proxy(port, planned([Cut(after)])) as proxy:
                with opened(running(proxy.port), tmp_path) as target, pytest.raises(Unreachable):
                    target.put("x", b"1" * 100_000)
                assert len(proxy.cuts) == 1
        assert not list(direct.list(""))


@given(st.text(min_size=1, max_size=40))
def test_every_key_has_a_name_that_the_service_takes(key: str) -> None:
    if names.fault(key):
        return
    folder, _, file = key.rpartition("/")
    for escaping, part in ((module._FOLDERS, folder), (module._FILES, file)):
        assert escaping.unescape(escaping.escape(part)) == part
        assert not part or _KEY.fullmatch(escaping.escape(part))
    assert "_" not in module._FOLDERS.escape(folder)


def test_errors_show_the_services_words(service: Supabase, target: Target) -> None:
    service.fail = [Reply(400, json.dumps({"error": "InvalidKey", "message": "Invalid key: x"}).encode())]
    with pytest.raises(Refused, match="Invalid key: x"):
        target.put("x", b"")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_redirect_to_another_host_takes_no_key_along(tmp_path: Path, host: str) -> None:
    with scripted() as service, scripted() as other:
        service.replies = [Scripted(307, headers={"Location": f"http://{host}:{other.port}/x"})]
        other.replies = [Scripted(200, b"")]
        with opened(running(service.port), tmp_path) as target:
            target.get("x")
        assert all(name in service.requests[0].headers for name in ("apikey", "authorization"))
        assert not any(KEY in value for value in other.requests[0].headers.values())


def test_a_redirect_on_the_same_host_keeps_the_key(tmp_path: Path) -> None:
    with scripted() as service:
        service.replies = [Scripted(307, headers={"Location": "/elsewhere"}), Scripted(200, b"")]
        with opened(running(service.port), tmp_path) as target:
            target.get("x")
        assert [request.headers["apikey"] for request in service.requests] == [KEY, KEY]


def test_an_address_that_is_none_is_told_with_its_setting(tmp_path: Path) -> None:
    given = {"SUPABASE_URL": "project.supabase.co"}
    with pytest.raises(UsageError, match=r"^SUPABASE_URL is not an http"), opened(running(1), tmp_path, given):
        pass
