"""Google Drive: a fake of its API under its own name, which rclone takes for the real thing (`test_judge.py`), and a
folder in the place of a mounted Drive."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.fakes.drive import HOSTS, FakeDrive
from tests.storage.stand import Running, Stand, behind_a_proxy, below_a_file, overwriting
from tests.storage.tls_proxy import Proxy, behind, proxy

SETTINGS = {"STORAGE_BACKEND": "gdrive", "GDRIVE_CLIENT_ID": "the-client", "GDRIVE_FOLDER": "/bitnet/one"}
KEYS = {"GDRIVE_REFRESH_TOKEN": "a-refresh-token", "GDRIVE_CLIENT_SECRET": "the-secret"}


@contextlib.contextmanager
def faked(folder: Path) -> Iterator[tuple[FakeDrive, Proxy]]:
    """The fake, with this process behind its proxy, and a user with `SETTINGS` and `KEYS`."""
    fake = FakeDrive()
    fake.identity.refresh_tokens.add(KEYS["GDRIVE_REFRESH_TOKEN"])
    with proxy(HOSTS, fake.answer, folder) as running, behind(running):
        yield fake, running
        assert not running.faults, running.faults[0]


@contextlib.contextmanager
def _gdrive(folder: Path) -> Iterator[Running]:
    with faked(folder) as (fake, running):
        wrong = {**KEYS, "GDRIVE_REFRESH_TOKEN": "a-revoked-token"}
        yield behind_a_proxy(running, SETTINGS, KEYS, wrong, fake.page)


@contextlib.contextmanager
def _mounted(folder: Path) -> Iterator[Running]:
    """A folder that has no links, as the mount of a Drive."""
    drive = folder / "MyDrive"
    drive.mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "link", no_link)
        yield Running(
            {"STORAGE_BACKEND": "gdrive", "GDRIVE_PROJECT_ROOT": str(drive / "bitnet")},
            nowhere={"GDRIVE_PROJECT_ROOT": str(below_a_file(folder))},
            overwrite=overwriting(folder),
        )


def no_link(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


STANDS = [Stand("gdrive", _gdrive), Stand("gdrive-mounted", _mounted)]
