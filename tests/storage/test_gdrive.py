"""Google Drive beyond the contract: names that are not unique, and what the API may answer."""

import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.errors import UsageError
from bitnet_core.storage.clients import drive_files
from bitnet_core.storage.target import AlreadyThere, NoSuchObject, Refused, Target, Unreachable
from tests.storage.fakes.drive import FOLDER, FakeDrive, File
from tests.storage.stand import Running, opened
from tests.storage.stands.gdrive import KEYS, SETTINGS, faked
from tests.storage.tls_proxy import Proxy, Reply, Request

API = "www.googleapis.com"
HALF = rb'{"files": [], "nextPageToken": "\ud800", "id": "\udfff", "access_token": "\ud800"}'


class World:
    def __init__(self, fake: FakeDrive, running: Proxy, target: Target) -> None:
        self.fake, self.running, self.target = fake, running, target

    def files(self) -> list[File]:
        return [file for file in self.fake.files.values() if file.kind != FOLDER]

    def play(self, method: str, reply: Reply | Callable[[Request], Reply | None], times: int = 1) -> None:
        """Answer the next requests of this method so; later ones by the fake."""
        left = [reply] * times

        def instead(request: Request) -> Reply | None:
            if (request.method, request.host) != (method, API) or not left:
                return None
            played = left.pop(0)
            return played if isinstance(played, Reply) else played(request)

        self.running.instead = instead

    def after_the_next(self, method: str, then: Callable[[], object]) -> None:
        """Let the fake answer the next request of this method, and something happen right after it."""

        def answer(request: Request) -> Reply:
            reply = self.fake.answer(request)
            then()
            return reply

        self.play(method, answer)

    def twin(self, key: str, data: bytes, seconds: float) -> None:
        """Another file with the key, so much younger than the object; as another machine makes it."""
        with_key = next(file for file in self.files() if file.description == key)
        twin = File(**{**vars(with_key), "id": f"twin{seconds}", "data": data, "created": with_key.created + seconds})
        self.fake.files[twin.id] = twin


@pytest.fixture
def world(tmp_path: Path, isolated: Path) -> Iterator[World]:
    with faked(tmp_path) as (fake, running), opened(Running(SETTINGS, KEYS), isolated) as target:
        yield World(fake, running, target)


def said(status: int, reason: str, **headers: str) -> Reply:
    error = {"code": status, "message": f"about {reason}", "errors": [{"reason": reason, "domain": "usageLimits"}]}
    return Reply(status, json.dumps({"error": error}).encode(), headers)


def path_of(fake: FakeDrive, file: File) -> str:
    above = fake.files.get(file.parents[0])
    return f"{path_of(fake, above) if above else ''}/{file.name}"


# -- names that are not unique -------------------------------------------------------------------------------
def test_people_see_folders_and_names(world: World) -> None:
    world.target.put("checkpoints/a.pt.parts/00000", b"1")
    assert path_of(world.fake, world.files()[0]) == "/bitnet/one/checkpoints/a.pt.parts/00000"


@pytest.mark.parametrize("seconds", [5.0, -5.0])
def test_of_two_files_with_one_key_the_older_is_the_object(world: World, seconds: float) -> None:
    world.target.put("x", b"first")
    world.twin("x", b"second", seconds)
    older = b"first" if seconds > 0 else b"second"
    assert world.target.get("x") == older
    assert [(one.key, one.size) for one in world.target.list("")] == [("x", len(older))]
    with pytest.raises(AlreadyThere):
        world.target.put("x", b"third", only_if_absent=True)
    world.target.put("x", b"newer")
    assert world.target.get("x") == b"newer"
    world.target.delete("x")
    assert not world.files()


def test_a_writer_who_was_second_takes_its_file_back(world: World) -> None:
    world.target.put("folder/x", b"0")
    world.target.delete("folder/x")
    world.after_the_next("POST", lambda: world.twin("folder/x", b"theirs", -1))
    with pytest.raises(AlreadyThere):
        world.target.put("folder/x", b"mine", only_if_absent=True)
    assert [file.data for file in world.files()] == [b"theirs"]


def test_a_writer_who_was_second_and_may_replace_does(world: World) -> None:
    world.target.put("folder/x", b"0")
    world.target.delete("folder/x")
    world.after_the_next("POST", lambda: world.twin("folder/x", b"theirs", -1))
    world.target.put("folder/x", b"mine")
    assert [file.data for file in world.files()] == [b"mine"]


def test_an_object_that_is_put_again_keeps_its_file(world: World) -> None:
    world.target.put("x", b"1")
    first = world.files()[0].id
    world.target.put("x", b"2")
    assert [(file.id, file.data) for file in world.files()] == [(first, b"2")]


def test_a_file_that_people_rename_or_move_stays_the_object(world: World) -> None:
    world.target.put("a/x", b"1")
    world.files()[0].name = "renamed"
    world.files()[0].parents = [world.fake.root]
    assert world.target.get("a/x") == b"1"
    assert [one.key for one in world.target.list("a/")] == ["a/x"]


def test_a_folder_in_the_bin_is_made_again(world: World) -> None:
    world.target.put("a/x", b"1")
    next(file for file in world.fake.files.values() if file.name == "a").trashed = True
    with pytest.raises(NoSuchObject):
        world.target.get("a/x")
    with pytest.raises(Unreachable):
        world.target.put("a/x", b"2")
    world.target.put("a/x", b"2")
    assert world.target.get("a/x") == b"2"


def test_a_folder_that_is_gone_is_made_again(world: World) -> None:
    world.target.put("a/x", b"1")
    world.fake.files.clear()
    with pytest.raises(Unreachable):
        world.target.put("a/x", b"2")
    world.target.put("a/x", b"2")
    assert world.target.get("a/x") == b"2"


def test_another_folder_is_another_target(world: World, tmp_path: Path) -> None:
    world.target.put("x", b"1")
    with opened(Running({**SETTINGS, "GDRIVE_FOLDER": "/bitnet/two"}, KEYS), tmp_path) as other:
        assert not list(other.list(""))
        other.put("x", b"2")
    assert world.target.get("x") == b"1"


def test_deep_keys_are_listed_below_any_prefix(world: World) -> None:
    parts = [f"d{number}" for number in range(40)]
    world.target.put("/".join(parts), b"1")
    world.target.put("/".join([*parts[:30], "other"]), b"1")
    for depth in (0, 1, 18, 19, 20, 21, 29, 30):
        assert len(list(world.target.list("".join(f"{part}/" for part in parts[:depth])))) == 2
    assert len(list(world.target.list("".join(f"{part}/" for part in parts[:31])))) == 1
    assert not list(world.target.list("".join(f"{part}/" for part in [*parts[:25], "no"])))


# -- uploads ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [0, 10, drive_files._MOST_IN_ONE, drive_files._MOST_IN_ONE + 1])
def test_small_and_large_uploads_are_compared_with_what_was_sent(world: World, size: int) -> None:
    def corrupted(request: Request) -> Reply | None:
        reply = world.fake.answer(request)
        body = json.loads(reply.body or b"{}")
        if "sha256Checksum" not in body:
            return reply
        return Reply(reply.status, json.dumps({**body, "sha256Checksum": "0" * 64}).encode(), reply.headers)

    world.target.put("y", b"")
    method = "PUT" if size > drive_files._MOST_IN_ONE else "POST"
    world.play(method, corrupted)
    with pytest.raises(Unreachable, match="other bytes"):
        world.target.put("x", bytes(size))
    assert [file.description for file in world.files()] == ["y"]
    world.target.put("x", bytes(size))
    world.play("PUT" if size > drive_files._MOST_IN_ONE else "PATCH", corrupted)
    with pytest.raises(Unreachable, match="other bytes"):
        world.target.put("x", bytes(size))


@pytest.mark.parametrize(
    "where", ["https://evil.example/x", "http://www.googleapis.com/x", "", "https://www.googleapis.com.evil/"]
)
def test_an_upload_is_sent_to_no_other_server(world: World, where: str) -> None:
    world.target.put("y", b"")
    world.play("POST", Reply(200, headers={"Location": where}))
    with pytest.raises(Refused, match="another server"):
        world.target.put("x", bytes(drive_files._MOST_IN_ONE + 1))


def test_bytes_that_look_like_the_form_of_an_upload_arrive(world: World) -> None:
    data = b"\r\n--boundary--\r\n\r\n--" * 5 + b"\r\n"
    world.target.put("x", data)
    assert world.target.get("x") == data


# -- what the API may answer -----------------------------------------------------------------------------------
CALLS: list[Callable[[Target], object]] = [
    lambda target: target.put("x", b"1"),
    lambda target: target.put("x", b"1", only_if_absent=True),
    lambda target: target.get("x"),
    lambda target: list(target.list("")),
    lambda target: target.delete("x"),
    lambda target: target.check(),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (said(403, "accessNotConfigured"), "enable the Drive API"),
        (said(403, "insufficientPermissions"), "run `bitnet store login`"),
        (said(403, "appNotAuthorizedToFile"), "about appNotAuthorizedToFile.*; see what its message names"),
        (Reply(401, b""), "run `bitnet store login`"),
        (Reply(403, b"<html>"), "see what its message names"),
    ],
)
def test_a_refusal_says_what_to_do(world: World, call: Callable[[Target], object], reply: Reply, words: str) -> None:
    world.play("GET", reply, times=2)
    with pytest.raises(Refused, match=words) as refused:
        call(world.target)
    assert not any(value in str(refused.value) for value in KEYS.values())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "reply", [said(403, "userRateLimitExceeded"), said(403, "rateLimitExceeded"), said(429, "x"), Reply(503, b"")]
)
def test_a_busy_service_may_be_asked_again(world: World, call: Callable[[Target], object], reply: Reply) -> None:
    world.play("GET", reply)
    with pytest.raises(Unreachable):
        call(world.target)


def test_a_full_drive_says_what_to_do(world: World) -> None:
    world.target.put("x", b"1234")
    assert world.target.check().free_bytes == (world.fake.total or 0) - 4
    world.fake.total = 4
    for call in (world.target.check, lambda: world.target.put("y", b"1")):
        with pytest.raises(Refused, match="free space in Google Drive"):
            call()
    world.fake.total = None
    assert world.target.check().free_bytes is None


def test_a_token_that_ends_is_renewed(world: World) -> None:
    world.target.put("x", b"1")
    world.fake.identity.access.clear()
    assert world.target.get("x") == b"1"


def test_a_listing_without_an_end_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.running.instead = lambda request: (
        Reply(200, b'{"files": [], "nextPageToken": "x"}') if request.host == API else None
    )
    with pytest.raises(Refused, match="without an end"):
        list(world.target.list(""))
    pages = iter(range(100))
    monkeypatch.setattr(drive_files, "_MOST_PAGES", 5)
    world.running.instead = lambda request: (
        Reply(200, b'{"files": [], "nextPageToken": "%d"}' % next(pages)) if request.host == API else None
    )
    with pytest.raises(Refused, match="without an end"):
        list(world.target.list(""))
    assert next(pages) == 5


@pytest.mark.parametrize(
    "change",
    [
        {"description": 5}, {"description": "other"}, {"description": "../x"}, {"description": None},
        {"appProperties": {}}, {"appProperties": [1]},
        {"size": None}, {"size": -1}, {"size": "many"}, {"size": "9" * 5000},
    ],
)  # fmt: skip
def test_files_of_others_are_no_objects(world: World, change: dict[str, Any]) -> None:
    world.target.put("x", b"1")
    file = {**world.fake._described(world.files()[0]), **change}
    reply = Reply(200, json.dumps({"files": [file]}).encode())
    world.play("GET", reply)
    assert not list(world.target.list(""))
    if "size" not in change:
        world.play("GET", reply)
        world.target.delete("x")
    assert len(world.files()) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"files": 5, "nextPageToken": 7}', b"[" * 60_000, HALF]
)
@pytest.mark.parametrize("call", CALLS)
def test_no_answer_raises_anything_else(world: World, call: Callable[[Target], object], body: bytes) -> None:
    world.running.instead = lambda request: Reply(200, body) if request.host == API else None
    try:
        call(world.target)
    except (AlreadyThere, NoSuchObject, Refused, Unreachable):
        return


# -- the place -------------------------------------------------------------------------------------------------
def test_without_a_folder_or_an_app_the_settings_are_named(tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"GDRIVE_PROJECT_ROOT.*GDRIVE_CLIENT_ID"),
        opened(Running({"STORAGE_BACKEND": "gdrive"}), tmp_path),
    ):
        pass


def test_a_drive_that_is_not_mounted_is_told(tmp_path: Path) -> None:
    settings = {"STORAGE_BACKEND": "gdrive", "GDRIVE_PROJECT_ROOT": str(tmp_path / "MyDrive" / "bitnet")}
    with pytest.raises(Refused, match="mount Google Drive"), opened(Running(settings), tmp_path):
        pass
    assert not (tmp_path / "MyDrive").exists()


@pytest.mark.parametrize("wanted", ["0", "1"])
def test_colab_mounts_the_drive_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    drive = types.ModuleType("google.colab.drive")
    monkeypatch.setattr(drive, "mount", lambda point: (Path(point) / "MyDrive").mkdir(parents=True), raising=False)
    for name in ("google", "google.colab"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "google.colab.drive", drive)
    settings = {
        "STORAGE_BACKEND": "gdrive",
        "GDRIVE_PROJECT_ROOT": str(tmp_path / "drive" / "MyDrive" / "bitnet"),
        "GDRIVE_MOUNT_POINT": str(tmp_path / "drive"),
        "AUTO_MOUNT_GDRIVE": wanted,
    }
    if wanted == "0":
        with pytest.raises(Refused, match="mount Google Drive"), opened(Running(settings), tmp_path):
            pass
        return
    with opened(Running(settings), tmp_path) as target:
        target.put("x", b"1")
    assert (tmp_path / "drive/MyDrive/bitnet/x").read_bytes() == b"1"
