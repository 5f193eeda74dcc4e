"""Box: a fake of its API under its own names, which rclone takes for the real thing (`test_judge.py`)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.storage.fakes.box import HOSTS, FakeBox
from tests.storage.stand import Running, Stand, behind_a_proxy
from tests.storage.tls_proxy import Proxy, behind, proxy

SETTINGS = {"STORAGE_BACKEND": "box", "BOX_CLIENT_ID": "the-client-id", "BOX_ROOT_FOLDER_ID": "0"}
REFRESH = {"BOX_REFRESH_TOKEN": "the-first-refresh-token", "BOX_CLIENT_SECRET": "the-client-secret"}
DEVELOPER = {"BOX_DEVELOPER_TOKEN": "the-developer-token"}


@contextlib.contextmanager
def faked(folder: Path) -> Iterator[tuple[FakeBox, Proxy]]:
    """The fake, with this process behind its proxy, and a user with `SETTINGS` and `REFRESH` or `DEVELOPER`."""
    fake = FakeBox()
    fake.refresh_tokens.add(REFRESH["BOX_REFRESH_TOKEN"])
    fake.access.add(DEVELOPER["BOX_DEVELOPER_TOKEN"])
    with proxy(HOSTS, fake.answer, folder) as running, behind(running):
        yield fake, running


@contextlib.contextmanager
def _box(folder: Path) -> Iterator[Running]:
    with faked(folder) as (fake, running):
        # A refresh token works once, and the tests of a stand open it several times.
        yield behind_a_proxy(
            running, SETTINGS, DEVELOPER, {**REFRESH, "BOX_REFRESH_TOKEN": "a-revoked-token"}, fake.page
        )
        assert not running.faults, running.faults[0]


STANDS = [Stand("box", _box)]
