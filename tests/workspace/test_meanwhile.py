"""What another command or app does to an experiment meanwhile: it is told, and nothing is lost or made again."""

import subprocess
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bitnet_core import files
from bitnet_core.errors import UsageError
from bitnet_core.files import FolderGone
from bitnet_core.runs import experiment, launch
from bitnet_core.runs.experiment import Experiment, Workspace
from bitnet_core.settings import dotenv
from bitnet_core.settings.resolve import resolve
from bitnet_core.workspace import changes, duplicates


@pytest.fixture
def root(home: Path) -> Path:
    root = Workspace(home).create("one", "SEED=7\n")
    Experiment.open(root).ensure()
    for name in ("kd_shard_000.parquet", "kd_stream_000.parquet"):
        (root / "data" / name).write_text(name)
    return root


def _names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def _save(root: Path) -> None:
    dotenv.change(root / ".env", lambda text: f"{text}KD_TAU=2\n")


@pytest.mark.parametrize(
    ("act", "where", "step"),
    [
        (_save, dotenv, "refuse_to_write"),
        (changes.archive, changes, "refuse_what_runs"),
        (changes.delete, changes, "_opened"),
        (changes.delete, changes, "launch_lock"),
        (changes.delete, changes, "_active"),
        (lambda root: changes.rename(root, "two"), changes, "_active"),
        (lambda root: duplicates.duplicate(root, "two"), duplicates, "resolve_and_remember"),
        (lambda root: duplicates.duplicate(root, "two", traces=True), duplicates, "has_traces"),
        (lambda root: duplicates.duplicate(root, "two", traces=True), duplicates, "_bring"),
        (lambda root: duplicates.duplicate(root, "two", traces=True), duplicates, "_place"),
    ],
)
def test_one_that_is_renamed_meanwhile_is_told_as_such(
    home: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[Path], object],
    where: object,
    step: str,
) -> None:
    done = getattr(where, step)

    def renaming(*arguments: object, **options: object) -> object:
        if root.exists():
            root.rename(home / "other")
        return done(*arguments, **options)

    monkeypatch.setattr(where, step, renaming)
    with pytest.raises(FolderGone, match=r"one was renamed or removed meanwhile; nothing was changed"):
        act(root)
    assert _names(home) == ["other"]
    assert dotenv.read_text(home / "other" / ".env") == "SEED=7\n"


def test_a_rename_does_not_replace_the_folder_of_one_that_is_being_made(
    home: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, refused, renamed = files.write_text, list[str](), threading.Event()

    def create() -> None:
        try:
            Workspace(home).create("two", "SEED=8\n")
        except UsageError as error:
            refused.append(str(error))

    creating = threading.Thread(target=create)

    def slowly(path: Path, text: str) -> None:
        renamed.wait(60)
        write(path, text)

    def looking(_: Path) -> tuple[str, ...]:
        creating.start()
        creating.join(0.5)  # it waits for the end of the rename
        return ()

    monkeypatch.setattr(experiment.files, "write_text", slowly)
    monkeypatch.setattr(changes, "mentions", looking)
    changes.rename(root, "two")
    renamed.set()
    creating.join()
    assert refused == [f"{home / 'two'} already exists; choose another name or open that experiment."]
    assert dotenv.read_text(home / "two" / ".env") == "SEED=7\n"


def test_the_demo_that_another_command_has_just_made_is_the_demo(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = Workspace.create

    def created_twice(self: Workspace, name: str, env_text: str = "") -> Path:
        create(self, name, env_text)
        return create(self, name, env_text)

    monkeypatch.setattr(Workspace, "create", created_twice)
    assert Workspace(home).demo() == (home / "demo", False)


def test_the_end_of_one_deletion_does_not_hinder_another(
    home: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_hex = changes.secrets.token_hex
    ending = threading.Thread(target=changes.finish_deletions, args=(home,))

    def while_the_folder_is_empty(size: int) -> str:
        ending.start()
        ending.join(0.5)  # it waits for what is about to be moved
        return token_hex(size)

    monkeypatch.setattr(changes.secrets, "token_hex", while_the_folder_is_empty)
    changes.delete(root)
    ending.join()
    assert _names(home) == []


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage stays one that is starting."""
    monkeypatch.setattr(launch, "START_SECONDS", 0.0)
    monkeypatch.setattr(launch, "start_with_secrets", lambda *_: subprocess.Popen(["true"], text=True))


def _launch(root: Path) -> launch.Run:
    resolution = resolve(root=root)
    return launch.launch(resolution.settings, "dryrun", env_files=resolution.env_files)


def test_a_rename_waits_until_a_launch_has_made_the_folders(
    home: Path, monkeypatch: pytest.MonkeyPatch, started: None
) -> None:
    root = Workspace(home).create("one", "SEED=7\n")
    told = []

    def rename() -> None:
        try:
            changes.rename(root, "two")
        except UsageError as error:
            told.append(str(error))

    renaming, ensure = threading.Thread(target=rename), Experiment.ensure

    def while_it_is_asked(self: Experiment) -> None:
        renaming.start()
        renaming.join(0.5)
        ensure(self)

    monkeypatch.setattr(Experiment, "ensure", while_it_is_asked)
    try:
        _launch(root)
    except UsageError as error:  # the rename came next
        told.append(str(error))
    renaming.join()
    assert len(told) == 1
    assert _names(home) in (["one"], ["two"])


@pytest.mark.parametrize("act", [lambda root: changes.rename(root, "two"), changes.delete])
def test_what_never_ran_is_not_moved_once_it_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch, started: None, act: Callable[[Path], object]
) -> None:
    root = Workspace(home).create("one", "SEED=7\n")
    held = files.folder_held

    def after_a_launch(folder: Path, *, moving: bool = False) -> AbstractContextManager[None]:
        if moving:
            launching.start()
            launching.join(0.5)
        return held(folder, moving=moving)

    launching = threading.Thread(target=lambda: _launch(root))
    monkeypatch.setattr(changes.files, "folder_held", after_a_launch)
    with pytest.raises(UsageError, match=r"dryrun-.* is running in .*one; stop it or wait until it ends"):
        act(root)
    launching.join()
    assert _names(home) == ["one"]
