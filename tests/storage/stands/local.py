"""Folders: no server at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.storage.stand import Running, Stand


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[Running]:
    yield Running({"STORAGE_BACKEND": "local", "STORAGE_LOCAL_DIR": str(folder / "copy")})


@contextlib.contextmanager
def _icloud(folder: Path) -> Iterator[Running]:
    drive = folder / "com~apple~CloudDocs"
    drive.mkdir()
    yield Running({"STORAGE_BACKEND": "icloud", "ICLOUD_DRIVE_DIR": str(drive)})


STANDS = [Stand("local", _folder), Stand("icloud", _icloud)]
