"""What was hashed for the manifest is not hashed again by the target that sends it."""

import hashlib
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from bitnet_core.storage import digest
from bitnet_core.storage.digest import hashed, sha256
from tests.storage.experiments import fill, machine
from tests.storage.memory import MemoryTarget
from tests.storage.pushing import SMALL, push


def test_a_known_digest_holds_for_this_object_in_this_thread_alone() -> None:
    data, same = b"x" * 99, bytes(bytearray(b"x" * 99))
    right = hashlib.sha256(data).hexdigest()
    elsewhere: list[str] = []
    with hashed(data, "known"):
        assert sha256(data) == "known"
        assert sha256(same) == right
        thread = threading.Thread(target=lambda: elsewhere.append(sha256(data)))
        thread.start()
        thread.join()
    assert elsewhere == [right]
    assert sha256(data) == right


class Checking(MemoryTarget):
    """A target that sends a sha256 with each object, as S3 does."""

    def put(self, key: str, data: bytes, *, only_if_absent: bool = False) -> None:
        assert sha256(data) == hashlib.sha256(data).hexdigest()
        super().put(key, data, only_if_absent=only_if_absent)


def test_a_push_hashes_each_byte_of_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = machine(tmp_path / "one")
    files = fill(experiment, {"checkpoints/mini_bitnet_step_00000001.pt": 9_001, "reports/small.json": 900})
    times: Counter[bytes] = Counter()

    def counted(data: bytes) -> object:
        times[data] += 1
        return hashlib.sha256(data)

    monkeypatch.setattr(digest, "hashlib", SimpleNamespace(sha256=counted))
    push(experiment, Checking(SMALL))
    large, small = files.values()
    parts = [large[at : at + SMALL.object_bytes] for at in range(0, len(large), SMALL.object_bytes)]
    assert [times[data] for data in (*parts, small)] == [1, 1, 1, 1]
