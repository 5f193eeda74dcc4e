"""An experiment that is renamed while a command reads it: the command says so, and makes no folder anew."""

import errno
import os
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.results.subject import SubjectReader
from bitnet_core.runs.history import History
from tests.hostile import experiment


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return experiment(tmp_path, "exp")


def said(root: Path) -> str:
    return (
        f"bitnet: {root} was removed while the command was using it; if it was renamed or moved, give its new place "
        "with --root.\n"
    )


@pytest.mark.parametrize(
    "error",
    [
        BitnetError("There is no checkpoint; train first."),
        OSError(errno.ENOENT, os.strerror(errno.ENOENT), "exp/logs"),
        IndexError("list index out of range"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("renamed", [True, False])
def test_whatever_it_then_lacks_is_not_what_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, renamed: bool
) -> None:
    def read(_: object) -> History:
        if renamed:
            root.rename(root.with_name("other"))
        raise error

    monkeypatch.setattr(History, "read", read)
    assert main(["runs", "--root", str(root)]) == 1
    assert capsys.readouterr().err.endswith(said(root)) == renamed


def test_a_report_is_not_written_under_the_old_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = SubjectReader.read

    def reading(self: SubjectReader) -> object:
        subject = read(self)
        root.rename(root.with_name("other"))
        return subject

    monkeypatch.setattr(SubjectReader, "read", reading)
    assert main(["report", "--root", str(root)]) == 1
    assert capsys.readouterr().err.endswith(said(root))
    assert not root.exists()
