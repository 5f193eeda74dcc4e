"""MongoDB as a target, beyond the contract: faults, what others wrote into its collection, and messages."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymongo
import pytest
from pymongo import monitoring
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from bitnet_core.errors import UsageError
from bitnet_core.storage.patient import Patient
from bitnet_core.storage.target import Corrupt, Found, Refused, Target, Unreachable
from bitnet_core.storage.targets import mongodb as target_module
from tests.sockets import served
from tests.storage.cutting_proxy import Cut, cutting_proxy
from tests.storage.stand import Running, opened
from tests.storage.stands import mongodb

pytestmark = pytest.mark.skipif(not mongodb.program(), reason="pip install secantusdb")
URI = "MONGODB_ATLAS_URI"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with mongodb.start(tmp_path_factory.mktemp("mongodb")) as running:
        yield running


@pytest.fixture
def root(server: Running) -> Iterator[Any]:
    with pymongo.MongoClient[Any](mongodb.uri(server.port, user="root")) as client:
        yield client


@pytest.fixture
def documents(root: Any) -> Any:
    """The target's collection, empty, as its administrator sees it."""
    root["bitnet_poc"]["artifacts_objects"].delete_many({})
    return root["bitnet_poc"]["artifacts_objects"]


@pytest.fixture
def target(server: Running, documents: Any, tmp_path: Path) -> Iterator[Target]:
    with opened(server, tmp_path) as target:
        yield target


def test_a_damaged_object_is_not_returned(target: Target, documents: Any) -> None:
    target.put("x", b"as it was")
    documents.update_one({"_id": "x"}, {"$set": {"data": b"as it Was"}})
    with pytest.raises(Corrupt, match=r"x is damaged.*\."):
        target.get("x")


@pytest.mark.parametrize("data", [None, "text", 7, ["a"], {"a": 1}])
def test_an_object_that_has_no_bytes_is_damaged(target: Target, documents: Any, data: object) -> None:
    documents.insert_one({"_id": "x", "size": 1, "sha256": "0", "data": data})
    with pytest.raises(Corrupt, match="damaged"):
        target.get("x")


def test_documents_of_others_are_not_listed(target: Target, documents: Any) -> None:
    target.put("mine/x", b"12")
    documents.insert_many([{"a": 1}, {"_id": 5, "size": 1}, {"_id": "mine/y"}, {"_id": "mine/z", "size": "big"}])
    documents.insert_many([{"_id": key, "size": 1} for key in ("mine/", "mine/../x", "mine//x", "", "mine/a\nb")])
    documents.insert_one({"_id": "mine/timeless", "size": 3, "modified": "yesterday"})
    for prefix in ("", "mine/"):
        found = {one.key: one for one in target.list(prefix)}
        assert set(found) == {"mine/x", "mine/timeless"}
        assert found["mine/timeless"] == Found("mine/timeless", 3, None)


def test_a_listing_asks_for_a_range_of_keys_and_for_no_data(server: Running, documents: Any, tmp_path: Path) -> None:
    asked = []

    class Listener(monitoring.CommandListener):
        def started(self, event: monitoring.CommandStartedEvent) -> None:
            asked.append(event.command)

        def succeeded(self, event: object) -> None: ...
        def failed(self, event: object) -> None: ...

    before = monitoring._LISTENERS
    monitoring.register(Listener())
    try:
        with opened(server, tmp_path) as target:
            target.put("a.b/x", b"1")
            target.put("aXb/x", b"1")
            asked.clear()
            assert [one.key for one in target.list("a.b/")] == ["a.b/x"]
    finally:
        monitoring._LISTENERS = before
    (find,) = [one for one in asked if "find" in one]
    assert find["filter"] == {"_id": {"$gte": "a.b/", "$lt": "a.b0"}}
    assert find["projection"] == {"size": 1, "modified": 1}
    assert "_id_1_size_1_modified_1" in documents.index_information()


def test_a_user_without_permission_is_told_the_role(server: Running, tmp_path: Path) -> None:
    with opened(server, tmp_path, {URI: mongodb.uri(server.port, user="nobody")}) as target:
        for call in (target.check, lambda: target.put("x", b"1"), lambda: list(target.list(""))):
            with pytest.raises(Refused, match="; give the user of MONGODB_ATLAS_URI the role readWrite") as refused:
                call()
            assert mongodb.PASSWORD not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"errorCode": 91}, Unreachable),
        ({"errorCode": 10107}, Unreachable),
        ({"errorCode": 50}, Unreachable),
        ({"errorCode": 14031}, Refused),
        ({"errorCode": 8000}, Refused),
        ({"errorCode": 2}, Refused),
        ({"closeConnection": True}, Unreachable),
    ],
)
@pytest.mark.parametrize("command", ["insert", "update", "find"])
def test_a_fault_is_told_and_not_tried_again(
    target: Target, root: Any, command: str, data: dict[str, Any], error: type[Exception]
) -> None:
    """The server fails once, so a second attempt of the driver's would succeed."""
    target.put("before", b"1")
    fault = {"failCommands": [command], **data}
    root.admin.command("configureFailPoint", "failCommand", mode={"times": 1}, data=fault)
    try:
        with pytest.raises(error):
            if command == "find":
                target.get("before")
            else:
                target.put("x", b"1", only_if_absent=command == "insert")
    finally:
        root.admin.command("configureFailPoint", "failCommand", mode="off")


def test_two_writers_of_a_new_key_are_told_to_try_again(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replacements of what is not there may both insert; MongoDB refuses one of them as a duplicate."""

    def refuse(*_: object, **__: object) -> None:
        raise DuplicateKeyError("E11000 duplicate key error", 11000)

    with monkeypatch.context() as patched:
        patched.setattr(Collection, "replace_one", refuse)
        with pytest.raises(Unreachable, match="another writer"):
            target.put("x", b"1")
    target.put("x", b"1")


def test_a_cut_connection_leaves_the_object_as_it_was(server: Running, documents: Any, tmp_path: Path) -> None:
    assert server.through is not None
    with opened(server, tmp_path) as direct:
        direct.put("there", b"older")
        with cutting_proxy(server.port, lambda: Cut(300_000)) as proxy:
            with opened(server, tmp_path, server.through(proxy.port)) as target:
                for key in ("there", "new"):
                    with pytest.raises(Unreachable):
                        target.put(key, bytes(1_000_000))
            assert len(proxy.cuts) == 2
        assert [one.key for one in direct.list("")] == ["there"]
        assert direct.get("there") == b"older"


@pytest.mark.parametrize(
    "uri",
    [
        "secret-1234567",
        "https://user:secret-1234567@host/",
        "mongodb://user:12/secret-1234567@host/db",
        "mongodb://user:secret-1234567/34@host/db",
        "mongodb://user:12?secret-1234567=5@host/",
        "mongodb://user:secret-1234567@more@host/",
        "mongodb://user:se%ret-1234567@host/",
        "mongodb://user:secret-1234567:more@host/",
        "mongodb://user:secret-1234567@host:port/",
        "mongodb://user:secret-1234567@host/?tls=perhaps",
        "mongodb://user:secret-1234567@host/?nonsense=1",
    ],
)
def test_a_wrong_address_is_told_without_its_password(server: Running, tmp_path: Path, uri: str) -> None:
    with pytest.raises(UsageError, match=URI) as refused, opened(server, tmp_path, {URI: uri}):
        pass
    assert "1234567" not in str(refused.value)
    assert ";" in str(refused.value)


def test_messages_name_the_place_without_the_password(server: Running, target: Target, tmp_path: Path) -> None:
    assert target.place == f"mongodb://127.0.0.1:{server.port}/bitnet_poc.artifacts_objects"
    with opened(server, tmp_path, server.dead) as dead, pytest.raises(Unreachable) as refused:
        dead.check()
    assert "127.0.0.1" in str(refused.value)
    assert "Topology" not in str(refused.value)
    for secret in (mongodb.PASSWORD, "pa%3As"):
        assert secret not in str(refused.value)


def test_a_large_object_takes_its_time_on_a_slow_link(
    server: Running, documents: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes half a second to send and to read; at first, a fifth of a second is all that an object gets."""
    monkeypatch.setattr(target_module, "_SILENCE_MS", 200)
    data = bytes(1 << 20)
    assert server.through is not None
    for act in (lambda target: target.put("x", data), lambda target: target.get("x")):
        with slow_link(server.port, 2 << 20) as port, opened(server, tmp_path, server.through(port)) as target:
            patient = Patient(target, first_wait=0.01)
            assert act(patient) in (None, data)


@contextlib.contextmanager
def slow_link(port: int, bytes_a_second: int) -> Iterator[int]:
    """The port of a proxy that passes on so many bytes, either way, and holds few."""
    share = bytes_a_second // 50

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(share):
                sink.sendall(data)
                time.sleep(len(data) / bytes_a_second)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as behind:
            back = threading.Thread(target=pump, args=(behind, client))
            back.start()
            pump(client, behind)
            back.join()

    with served(serve) as url:
        yield int(url.rpartition(":")[2])
