"""Folders: no server at all."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.storage.stand import Running, Stand, below_a_file, overwriting


@contextlib.contextmanager
def _folder(folder: Path) -> Iterator[Running]:
    yield Running(
        {"STORAGE_BACKEND": "local", "STORAGE_LOCAL_DIR": str(folder / "copy")},
        nowhere={"STORAGE_LOCAL_DIR": str(below_a_file(folder))},
        overwrite=overwriting(folder),
    )


@contextlib.contextmanager
def _icloud(folder: Path) -> Iterator[Running]:
    drive = folder / "com~apple~CloudDocs"
    drive.mkdir()
    yield Running(
        {"STORAGE_BACKEND": "icloud", "ICLOUD_DRIVE_DIR": str(drive)},
        nowhere={"ICLOUD_DRIVE_DIR": str(below_a_file(folder))},
        overwrite=overwriting(folder),
    )


STANDS = [Stand("local", _folder), Stand("icloud", _icloud)]
