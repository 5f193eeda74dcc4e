"""The tokens of Box: rotated ones are kept before they are used, and what is refused is told without them."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.storage.keys import Keys
from bitnet_core.storage.opening import open_target
from bitnet_core.storage.target import Refused, Unreachable
from tests.storage.fakes.box import FakeBox
from tests.storage.stand import Running, opened, settings_of
from tests.storage.stands.box import DEVELOPER, REFRESH, SETTINGS, faked
from tests.storage.tls_proxy import Proxy, Reply, Request

_JSON = {"Content-Type": "application/json"}
Service = tuple[FakeBox, Proxy]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with faked(tmp_path / "fake") as both:
        yield both


class _Kept:
    """Where a rotated token is kept, and what had been asked for then."""

    def __init__(self, fake: FakeBox) -> None:
        self.tokens: list[str] = []
        self.valid: list[bool] = []
        self.fake = fake

    def keep(self, name: str, value: str) -> None:
        assert name == "BOX_REFRESH_TOKEN"
        self.tokens.append(value)
        self.valid.append(value in self.fake.refresh_tokens and self.fake.log[-1] == "POST /oauth2/token")


def test_a_rotated_token_is_kept_before_anything_else_is_asked(service: Service, tmp_path: Path) -> None:
    fake, _ = service
    kept = _Kept(fake)
    with open_target(settings_of(SETTINGS, tmp_path), Keys(REFRESH, kept.keep)) as target:
        target.put("x", b"1")
        fake.access.clear()
        target.put("x", b"2")
        assert target.get("x") == b"2"
    assert kept.valid == [True, True]
    assert kept.tokens[-1] in fake.refresh_tokens
    with open_target(
        settings_of(SETTINGS, tmp_path), Keys({**REFRESH, "BOX_REFRESH_TOKEN": kept.tokens[-1]}, kept.keep)
    ) as again:
        assert again.get("x") == b"2"


def test_a_token_that_cannot_be_kept_is_not_used(service: Service, tmp_path: Path) -> None:
    def fail(name: str, value: str) -> None:
        raise BitnetError("The keyring is locked; unlock it.")

    with (
        open_target(settings_of(SETTINGS, tmp_path), Keys(REFRESH, fail)) as target,
        pytest.raises(BitnetError, match="locked"),
    ):
        target.put("x", b"1")
    assert service[0].log == ["POST /oauth2/token"]


def test_one_thread_renews_for_all(service: Service, tmp_path: Path) -> None:
    fake, proxy = service
    kept = _Kept(fake)
    together = threading.Barrier(8, timeout=60)

    def wait_for_all(request: Request) -> None:
        if request.headers.get("authorization") == "Bearer ended":
            together.wait()

    with (
        open_target(settings_of(SETTINGS, tmp_path), Keys(REFRESH, kept.keep)) as target,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(lambda number: target.put(f"{number}", b"1"), range(8)))
        assert len(kept.tokens) == 1
        target._client.auth.token_storage.get().access_token = "ended"  # type: ignore[attr-defined]
        proxy.instead = wait_for_all
        list(pool.map(lambda number: target.put(f"{number}", b"2"), range(8)))
    assert len(kept.tokens) == 2


def test_an_ended_developer_token_is_refused(service: Service, tmp_path: Path) -> None:
    fake, _ = service
    fake.access.clear()
    with (
        opened(Running(SETTINGS, DEVELOPER), tmp_path) as target,
        pytest.raises(Refused, match=r"401\); run `bitnet store login`\.") as raised,
    ):
        target.check()
    assert DEVELOPER["BOX_DEVELOPER_TOKEN"] not in str(raised.value)
    assert len(fake.log) == 1


@pytest.mark.parametrize(
    ("changed", "reply"),
    [
        ({"BOX_REFRESH_TOKEN": "used-before"}, None),
        ({"BOX_CLIENT_SECRET": "a-wrong-secret"}, None),
        ({}, Reply(200, b"{}", _JSON)),
        ({}, Reply(200, b'{"access_token": 3, "refresh_token": []}', _JSON)),
        ({}, Reply(401, b"")),
        ({}, Reply(503, b"")),
    ],
)
def test_a_failed_renewal_is_a_sentence_without_secrets(
    service: Service, tmp_path: Path, changed: dict[str, str], reply: Reply | None
) -> None:
    service[1].instead = lambda request: reply if request.path == "/oauth2/token" else None
    given_keys = {**REFRESH, **changed}
    with opened(Running(SETTINGS, given_keys), tmp_path) as target:
        with pytest.raises(Unreachable if reply and reply.status == 503 else Refused) as raised:
            target.check()
        assert not any(value in str(raised.value) for value in given_keys.values())
        if reply is None:
            assert str(raised.value).endswith("; run `bitnet store login`.")


@pytest.mark.parametrize(
    ("settings", "given_keys", "named"),
    [
        (SETTINGS, {}, "BOX_REFRESH_TOKEN"),
        ({**SETTINGS, "BOX_CLIENT_ID": ""}, REFRESH, "BOX_CLIENT_ID"),
        (SETTINGS, {"BOX_REFRESH_TOKEN": "x"}, "BOX_CLIENT_SECRET"),
        ({**SETTINGS, "BOX_ROOT_FOLDER_ID": "../1"}, DEVELOPER, "BOX_ROOT_FOLDER_ID"),
    ],
)
def test_what_is_not_set_or_wrong_is_named(
    settings: dict[str, str], given_keys: dict[str, str], named: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named), opened(Running(settings, given_keys), tmp_path):
        pass
