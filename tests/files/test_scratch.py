"""Folders for temporary files."""

import stat
import tempfile
from pathlib import Path

import pytest

from bitnet_core.files import half_written
from bitnet_core.files.scratch import scratch_folder


def test_a_scratch_folder_is_private_and_gone_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / f".bitnet-export.{half_written._writer(2**22 + 1)}-0.part").mkdir()
    with scratch_folder("plan") as folder, scratch_folder("plan") as another:
        assert set(tmp_path.iterdir()) == {folder, another}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "student.gguf").write_bytes(b"x")
    assert not list(tmp_path.iterdir())
