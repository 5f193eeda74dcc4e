"""An experiment that is renamed while a command reads it: the command says so, and makes no folder anew."""

import errno
import os
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError
from bitnet_core.results.subject import SubjectReader
from bitnet_core.runs.history import History
from bitnet_core.secrets import known
from bitnet_core.storage import snapshot
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


@pytest.mark.parametrize("when", ["read", "were read"])
@pytest.mark.parametrize(
    "command",
    [
        "runs", "watch", "report", "traces list", "traces stats", "store ls", "store push",
        "bench score arc_easy --model student", "generate hello", "export gguf",
    ],
)  # fmt: skip
def test_a_rename_while_its_settings_are_read_or_then_is_told_as_such(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, when: str
) -> None:
    opened, resolved, env = os.open, known.resolve_and_remember, root / ".env"

    def opening(path: object, *arguments: object, **options: object) -> int:
        if path == env and when == "read" and env.exists():
            root.rename(root.with_name("other"))
        return opened(path, *arguments, **options)  # type: ignore[arg-type]

    def resolving(*arguments: object, **options: object) -> object:
        found = resolved(*arguments, **options)  # type: ignore[arg-type]
        if when == "were read" and root.exists():
            root.rename(root.with_name("other"))
        return found

    monkeypatch.setattr(os, "open", opening)
    monkeypatch.setattr(known, "resolve_and_remember", resolving)
    monkeypatch.setenv("STORAGE_LOCAL_DIR", str(root.parent / "copy"))
    assert main([*command.split(), "--root", str(root)]) == 1
    assert capsys.readouterr().err.endswith(said(root))
    assert not root.exists()


def test_nothing_is_pushed_from_an_experiment_that_is_moved_while_it_is_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def taking(*_: object) -> snapshot.Snapshot:
        root.rename(root.with_name("other"))
        return snapshot.Snapshot([], [])

    monkeypatch.setattr(snapshot, "take", taking)
    monkeypatch.setenv("STORAGE_LOCAL_DIR", str(root.parent / "copy"))
    assert main(["store", "push", "--root", str(root)]) == 1
    assert capsys.readouterr().err.endswith(said(root))
    assert not root.exists()
