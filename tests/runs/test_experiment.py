"""Experiments and the workspace: what counts as one, what is refused, what is created."""

import errno
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.runs.experiment import Experiment, Workspace, is_experiment
from bitnet_core.settings.resolve import from_values, resolve


def _experiment(root: Path, **values: str) -> Experiment:
    return Experiment.from_settings(from_values({"DRIVE_ROOT": str(root), **values}))


def test_ensure_creates_the_folders_and_may_be_repeated(tmp_path: Path) -> None:
    experiment = _experiment(tmp_path / "a/b")
    experiment.ensure()
    experiment.ensure()
    assert is_experiment(tmp_path / "a/b")
    assert {p.name for p in (tmp_path / "a/b").iterdir()} == {"checkpoints", "data", "reports", "logs"}


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("chapter one")
    with pytest.raises(UsageError, match="is not empty and is not an experiment"):
        _experiment(tmp_path).ensure()
    assert [p.name for p in tmp_path.iterdir()] == ["novel.txt"]


def test_no_folder_is_created_when_the_setting_forbids_it(tmp_path: Path) -> None:
    with pytest.raises(BitnetError, match="AUTO_CREATE_DIRS=1"):
        _experiment(tmp_path / "new", AUTO_CREATE_DIRS="0").ensure()
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BitnetError, match="can't be created"):
        _experiment(tmp_path / "file/inside").ensure()


def test_the_workspace_lists_its_experiments(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    assert Workspace(tmp_path / "none").experiments() == []
    first, second = workspace.create("first"), workspace.create("second", "SEED=1\n")
    (tmp_path / "notes").mkdir()
    (first / "logs").mkdir()
    assert {path.name for path in workspace.experiments()} == {"first", "second"}
    assert workspace.experiments()[0] in (first, second)
    assert (second / ".env").read_text() == "SEED=1\n"


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "naïve\n"])
def test_malformed_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name"):
        Workspace(tmp_path).create(name)


def test_a_taken_name_is_refused_and_its_settings_are_kept(tmp_path: Path) -> None:
    root = Workspace(tmp_path).create("one", "SEED=1\n")
    with pytest.raises(UsageError, match="already exists"):
        Workspace(tmp_path).create("one", "SEED=2\n")
    assert (root / ".env").read_text() == "SEED=1\n"


def test_what_could_not_be_created_takes_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "write_text", full)
        with pytest.raises(BitnetError, match=r"demo can't be created \(No space left on device\)"):
            workspace.demo()
    assert not (tmp_path / "demo").exists()
    assert workspace.demo() == (tmp_path / "demo", True)


def test_the_demos_settings_have_no_problem(tmp_path: Path) -> None:
    root, new = Workspace(tmp_path).demo()
    assert new
    assert Workspace(tmp_path).demo() == (root, False)
    found = resolve(root=root, environ={}, cwd=tmp_path)
    assert found.problems == ()
    assert found.settings.values["TEACHER_PROVIDER"] == "embedded"
    assert found.settings.origin("STUDENT_INIT").startswith("demo/.env line")
