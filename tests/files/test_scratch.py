"""Folders for temporary files."""

import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from bitnet_core.files.scratch import scratch_folder

_KILLED = """
import os, signal, tempfile
from bitnet_core.files.scratch import scratch_folder
with scratch_folder("export") as folder:
    (folder / "values.npy").write_bytes(b"x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_has_left_goes_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed = subprocess.run([sys.executable, "-c", _KILLED], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    theirs = tmp_path / f".other{left.name.removeprefix('.bitnet-export')}"
    theirs.mkdir()
    with scratch_folder("plan") as folder, scratch_folder("plan") as another:
        assert set(tmp_path.iterdir()) == {folder, another, theirs}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "student.gguf").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == [theirs]
