"""How much of a wheel has arrived, while pip makes and removes its folders."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitnet_core.files.wheels import _largest_file


def test_the_largest_file_counts(tmp_path: Path) -> None:
    assert _largest_file(tmp_path) == _largest_file(tmp_path / "missing") == 0
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "wheel").write_bytes(bytes(700))
    (tmp_path / "log").write_bytes(bytes(20))
    assert _largest_file(tmp_path) == 700


def test_folders_and_files_that_pip_removes_meanwhile_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stays").write_bytes(bytes(9))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wheel").write_bytes(bytes(700))
    real = os.scandir

    def removing(path: str | Path) -> Iterator[os.DirEntry[str]]:
        found = real(path)
        for name in ("one", "two"):
            (tmp_path / name / "wheel").unlink(missing_ok=True)
            if (tmp_path / name).exists():
                (tmp_path / name).rmdir()
        return found

    monkeypatch.setattr(os, "scandir", removing)
    assert _largest_file(tmp_path) == 9
