"""Each stand is started once for all tests of a process that need it."""

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitnet_core.storage import turn
from bitnet_core.storage.target import Target
from bitnet_core.storage.under import Under
from tests.storage.fakes.scripted import Scripted, scripted
from tests.storage.stand import Running, Stand, all_stands, opened

_places = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes minutes runs by hand: `make test-storage`."""
    if os.environ.get("STORAGE_LONG") != "1":
        for item in items:
            if item.get_closest_marker("storage_long"):
                item.add_marker(pytest.mark.skip(reason="it takes minutes; make test-storage runs it"))


@pytest.fixture(scope="module", params=all_stands(), ids=lambda stand: stand.name)
def stand(request: pytest.FixtureRequest) -> Stand:
    chosen: Stand = request.param
    if why := chosen.missing():
        pytest.skip(f"{chosen.name}: {why}")
    return chosen


@pytest.fixture(scope="module")
def running(stand: Stand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with stand.start(tmp_path_factory.mktemp(stand.name)) as started:
        yield started


@pytest.fixture(autouse=True)
def user_of_the_stand(request: pytest.FixtureRequest, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a test the environment of its stand's user; after `isolated`, which closes the way out."""
    if "running" in request.fixturenames:
        started: Running = request.getfixturevalue("running")
        for name, value in started.environment.items():
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def whole_target(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with contextlib.ExitStack() as stack:
        yield stack.enter_context(opened(running, tmp_path_factory.mktemp("user")))


@pytest.fixture
def target(whole_target: Target, request: pytest.FixtureRequest) -> Target:
    """The stand's target, with a place of its own for each test."""
    name = request.node.originalname or request.node.name
    return Under(whole_target, f"{name}-{next(_places)}/")


@pytest.fixture(scope="module")
def no_wait_for_a_turn() -> Iterator[None]:
    """A turn to publish that another machine has left is taken over at once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(turn, "ABANDONED_SECONDS", 0.0)
        yield


@pytest.fixture
def no_aws_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing on this machine says who asks Amazon."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def server() -> Iterator[Scripted]:
    """A server whose replies a test writes in `script.replies`."""
    with scripted() as started:
        yield started


@pytest.fixture
def script(server: Scripted) -> Scripted:
    server.requests.clear()
    return server
