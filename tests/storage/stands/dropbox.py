"""Dropbox: a fake of its API under its own names, which rclone takes for the real thing (`test_judge.py`)."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.storage.fakes.dropbox import HOSTS, FakeDropbox
from tests.storage.stand import Running, Stand, behind_a_proxy
from tests.storage.tls_proxy import Proxy, behind, proxy

SETTINGS = {"STORAGE_BACKEND": "dropbox", "DROPBOX_APP_KEY": "the-app-key", "DROPBOX_ROOT": "/Experiments/one"}
KEYS = {"DROPBOX_REFRESH_TOKEN": "a-refresh-token", "DROPBOX_APP_SECRET": "the-app-secret"}


@contextlib.contextmanager
def faked(folder: Path) -> Iterator[tuple[FakeDropbox, Proxy]]:
    """The fake, with this process behind its proxy, and a user with `SETTINGS` and `KEYS`."""
    fake = FakeDropbox()
    fake.refresh_tokens.add(KEYS["DROPBOX_REFRESH_TOKEN"])
    with proxy(HOSTS, fake.answer, folder) as running, behind(running):
        yield fake, running


@contextlib.contextmanager
def _dropbox(folder: Path) -> Iterator[Running]:
    with faked(folder) as (fake, running):
        wrong = {**KEYS, "DROPBOX_REFRESH_TOKEN": "a-revoked-token"}
        yield behind_a_proxy(running, SETTINGS, KEYS, wrong, fake.page)
        assert not running.faults, running.faults[0]


STANDS = [Stand("dropbox", _dropbox)]
