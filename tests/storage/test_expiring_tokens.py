"""An access token that ends while an experiment is pushed: it is renewed once, and what replaces it is kept."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bitnet_core.storage.keys import Keys
from bitnet_core.storage.opening import open_target
from bitnet_core.storage.patient import Patient
from bitnet_core.storage.push import Push
from bitnet_core.storage.state import opened as opened_state
from bitnet_core.storage.target import Refused, Target
from bitnet_core.storage.under import Under
from tests.storage.experiments import complete_state, fill, machine, restored
from tests.storage.stand import settings_of
from tests.storage.stands import box, gdrive, onedrive

SIZES = {f"data/shard_{number:02}.parquet": 50_000 + number for number in range(24)}


@dataclass
class Cloud:
    """A fake service, and a user of it."""

    settings: dict[str, str]
    keys: dict[str, str]
    login: str
    access: Any
    """The access tokens that the service takes."""
    refresh_tokens: set[str]
    renewals: Callable[[], int]


@contextlib.contextmanager
def _onedrive(folder: Path) -> Iterator[Cloud]:
    with onedrive.faked(folder) as (fake, _):
        fake.identity.rotates = True
        yield Cloud(
            onedrive.SETTINGS, onedrive.KEYS, "ONEDRIVE_REFRESH_TOKEN", fake.identity.access,
            fake.identity.refresh_tokens, lambda: len(fake.identity.asked),
        )  # fmt: skip


@contextlib.contextmanager
def _gdrive(folder: Path) -> Iterator[Cloud]:
    with gdrive.faked(folder) as (fake, _):
        fake.identity.rotates = True
        fake.identity.client_secret = gdrive.KEYS["GDRIVE_CLIENT_SECRET"]
        yield Cloud(
            gdrive.SETTINGS, gdrive.KEYS, "GDRIVE_REFRESH_TOKEN", fake.identity.access,
            fake.identity.refresh_tokens, lambda: len(fake.identity.asked),
        )  # fmt: skip


@contextlib.contextmanager
def _box(folder: Path) -> Iterator[Cloud]:
    with box.faked(folder) as (fake, _):
        yield Cloud(
            box.SETTINGS, box.REFRESH, "BOX_REFRESH_TOKEN", fake.access,
            fake.refresh_tokens, lambda: fake.log.count("POST /oauth2/token"),
        )  # fmt: skip


CLOUDS = {"onedrive": _onedrive, "gdrive": _gdrive, "box": _box}


@pytest.fixture(params=CLOUDS)
def cloud(request: pytest.FixtureRequest, isolated: Path) -> Iterator[Cloud]:
    folder = request.getfixturevalue("tmp_path")
    with CLOUDS[request.param](folder) as found:
        yield found


@contextlib.contextmanager
def opened(cloud: Cloud, folder: Path, kept: list[str]) -> Iterator[Target]:
    keys = Keys(cloud.keys, lambda name, value: kept.append(value) if name == cloud.login else None)
    with open_target(settings_of(cloud.settings, folder), keys) as target:
        yield Under(Patient(target, first_wait=0.01), "exp/")


def test_a_token_that_ends_is_renewed_once(cloud: Cloud, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    contents = fill(one, SIZES)
    kept: list[str] = []
    renewed: list[int] = []
    with opened(cloud, tmp_path, kept) as place, opened_state(one.root, "cloud") as state:

        def end_the_token(*_: object) -> None:
            if not renewed:
                renewed.append(cloud.renewals())
                cloud.access.clear()

        Push(one, place, state, on_bytes=end_the_token).run()
        assert cloud.renewals() == renewed[0] + 1
        assert kept[-1] in cloud.refresh_tokens
        stored = restored(place, complete_state(place))
    assert {name: stored[name] for name in contents} == contents


def test_a_login_that_has_ended_is_said(cloud: Cloud, tmp_path: Path) -> None:
    one = machine(tmp_path / "one")
    fill(one, SIZES)
    kept: list[str] = []
    with opened(cloud, tmp_path, kept) as place, opened_state(one.root, "cloud") as state:

        def end_the_login(*_: object) -> None:
            cloud.refresh_tokens.clear()
            cloud.access.clear()

        with pytest.raises(Refused, match="bitnet store login") as refused:
            Push(one, place, state, on_bytes=end_the_login).run()
    assert not any(secret in str(refused.value) for secret in (*kept, *cloud.keys.values()))
