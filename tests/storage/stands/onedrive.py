"""OneDrive: a fake of Graph under its own names, which rclone takes for the real thing (`test_judge.py`)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.storage.fakes.graph import HOSTS, FakeGraph
from tests.storage.stand import Running, Stand, behind_a_proxy
from tests.storage.tls_proxy import Proxy, behind, proxy

SETTINGS = {"STORAGE_BACKEND": "onedrive", "ONEDRIVE_CLIENT_ID": "the-client", "ONEDRIVE_ROOT": "/BitNet/one"}
KEYS = {"ONEDRIVE_REFRESH_TOKEN": "a-refresh-token"}


@contextlib.contextmanager
def faked(folder: Path) -> Iterator[tuple[FakeGraph, Proxy]]:
    """The fake, with this process behind its proxy, and a user with `SETTINGS` and `KEYS`."""
    fake = FakeGraph()
    fake.identity.refresh_tokens.update(KEYS.values())
    with proxy(HOSTS, fake.answer, folder) as running, behind(running):
        yield fake, running
        assert not running.faults, running.faults[0]


@contextlib.contextmanager
def _onedrive(folder: Path) -> Iterator[Running]:
    with faked(folder) as (fake, running):
        wrong = {"ONEDRIVE_REFRESH_TOKEN": "a-revoked-token"}
        yield behind_a_proxy(running, SETTINGS, KEYS, wrong, fake.page)


STANDS = [Stand("onedrive", _onedrive)]
