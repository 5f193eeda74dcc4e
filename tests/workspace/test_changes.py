"""Renaming, archiving and deleting experiments: what is refused, what follows, and that nothing else is touched."""

import dataclasses
import json
import threading
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files import locked, trees
from bitnet_core.runs.experiment import ARCHIVED, Experiment, Workspace
from bitnet_core.runs.export_run import export_lock
from bitnet_core.runs.history import History
from bitnet_core.runs.launch import launch_lock, lock_path
from bitnet_core.settings.resolve import resolve
from bitnet_core.storage.state import Busy, exclusive
from bitnet_core.workspace import changes
from bitnet_core.workspace.changes import archive, delete, find, holding, rename


def _experiment(home: Path, name: str, env: str = "") -> Path:
    root = Workspace(home).create(name, env)
    Experiment.open(root).ensure()
    (root / "data" / "x").write_bytes(b"x" * 1000)
    return root


def _names(home: Path) -> list[str]:
    return sorted(root.name for root in Workspace(home).experiments())


def test_a_renamed_experiment_is_the_same_under_another_name(home: Path):
    root = _experiment(home, "one", "SEED=7\n")
    before = (root / "data" / "x").stat().st_ino
    done = rename(find(home, "one"), "two")
    assert (done.root, done.remarks, _names(home)) == (home / "two", [], ["two"])
    assert (done.root / "data" / "x").stat().st_ino == before
    assert Experiment.open(done.root).settings.values["SEED"] == 7


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".env", "-x", "ä", "x" * 65, "other", "afile", "dangling"])
def test_a_name_that_is_not_allowed_or_taken_changes_nothing(home: Path, name: str):
    _experiment(home, "one")
    _experiment(home, "other")
    (home / "afile").touch()
    (home / "dangling").symlink_to(home / "nowhere")
    with pytest.raises(UsageError):
        rename(find(home, "one"), name)
    assert _names(home) == ["one", "other"]
    assert list((home / "one").glob(".*")) == [home / "one" / ".env"]


@pytest.mark.parametrize("name", ["", ".", "..", "../one", "gone", "afile", "link", "folder", "x\0y"])
def test_only_a_folder_of_the_workspace_that_is_an_experiment_is_found(home: Path, tmp_path: Path, name: str):
    _experiment(home, "one")
    elsewhere = _experiment(tmp_path / "elsewhere", "theirs")
    (home / "afile").touch()
    (home / "folder").mkdir()
    (home / "link").symlink_to(elsewhere)
    with pytest.raises(UsageError):
        find(home, name)
    assert (elsewhere / "data" / "x").exists()


def test_the_copy_keeps_its_name(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """A real push, before and after: the second finds everything there."""
    (tmp_path / "copies").mkdir()
    root = _experiment(home, "one", f"STORAGE_LOCAL_DIR={tmp_path / 'copies'}\n")
    assert main(["--root", str(root), "store", "push"]) == 0
    done = rename(root, "two")
    assert done.remarks == ["Its copy on the storage target stays one (STORAGE_NAME in its .env)."]
    capsys.readouterr()
    assert main(["--root", str(done.root), "--json", "store", "push"]) == 0
    pushed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert pushed["sent_files"] == 0
    assert [at.name for at in (tmp_path / "copies").iterdir() if at.name != "_temp"] == ["one"]
    done = rename(done.root, "three")
    assert done.remarks == []
    assert (done.root / ".env").read_text().count("STORAGE_NAME=one") == 1


def test_settings_that_are_a_link_into_the_workspace_are_changed_too(home: Path):
    """Their folder is that in which the experiment is renamed, and is held for that."""
    root = _experiment(home, "one")
    (root / ".storage").mkdir()
    shared = home / "one.env"
    shared.write_text(f"KD_DATA_PATH={root}/data\n")
    (root / ".env").unlink()
    (root / ".env").symlink_to(shared)
    done = rename(root, "two")
    assert (done.root / ".env").is_symlink()
    assert shared.read_text().splitlines() == ["KD_DATA_PATH=./data", "STORAGE_NAME=one"]
    assert Experiment.from_settings(resolve({}, root=done.root).settings).data == done.root / "data"


def test_paths_in_settings_follow_or_are_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    root = _experiment(home, "one")
    (root / ".env").write_text(
        f"# mine\nKD_PROMPTS_FILE={root}/prompts.txt\nKD_DATA_PATH=data\nEVAL_PROMPTS_FILE={home}/one-more/p\n"
        "TEACHER_MODEL=~nobody-here/one/x\nSTUDENT_INIT=~/one/model.gguf\n"
    )
    monkeypatch.setenv("HOME", str(home))
    _experiment(home, "reader", f"KD_DATA_PATH={root}/data\nKD_PROMPTS_FILE=../one/p.txt\nHF_MODEL=one/data\n")
    done = rename(root, "two")
    assert done.remarks == [
        f"KD_PROMPTS_FILE, STUDENT_INIT in its .env name files in {home / 'two'} now.",
        f"reader reads files of one: KD_DATA_PATH, KD_PROMPTS_FILE in {home / 'reader' / '.env'}.",
    ]
    model = f'"{home}/two/model.gguf"' if " " in str(home) else f"{home}/two/model.gguf"
    assert (done.root / ".env").read_text() == (
        f"# mine\nKD_PROMPTS_FILE=./prompts.txt\nKD_DATA_PATH=data\nEVAL_PROMPTS_FILE={home}/one-more/p\n"
        f"TEACHER_MODEL=~nobody-here/one/x\nSTUDENT_INIT={model}\n"
    )


def test_a_rename_that_is_killed_leaves_paths_that_lead_to_the_files(home: Path, monkeypatch: pytest.MonkeyPatch):
    root = _experiment(home, "one", f"KD_DATA_PATH={home}/one/data\n")

    def killed(*_: Path) -> None:
        raise KeyboardInterrupt

    for place, step, at in ((Path, "rename", root), (changes.files, "fsync_folder", home / "two")):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(place, step, killed)
            rename(root, "two")
        assert Experiment.from_settings(resolve({}, root=at).settings).data == at / "data"


def test_a_deletion_that_was_killed_is_finished_by_the_same_one(home: Path, capsys: pytest.CaptureFixture[str]):
    root = _experiment(home, "one")
    (home / ".deleting").mkdir()
    root.rename(home / ".deleting" / "one-1234abcd")
    command = ["experiments", "delete", "one", "--yes"]
    assert main(["--set", f"BITNET_HOME={home}", *command]) == 0
    assert capsys.readouterr().out == "one: deleted before; now nothing of it is left\n"
    assert not any(home.iterdir())
    assert main(["--set", f"BITNET_HOME={home}", *command]) == 2


def test_nothing_is_outdated_by_a_new_name(home: Path):
    """Settings that name files in the experiment belong to what decides a stage's result."""
    from tests.tui.simulated import NOON, SimulatedRun

    root = _experiment(home, "one", "KD_PROMPTS_FILE=prompts.txt\n")
    (root / "prompts.txt").write_text("Hello.\n")
    experiment = Experiment.open(root)
    (experiment.data / "kd_shard_000.parquet").touch()
    run = SimulatedRun(experiment, "collect", NOON)
    run.run.write(dataclasses.replace(run.run.record(), folder=str(run.run.path)))
    run.finish()

    def state(at: Path) -> str:
        settings = resolve({}, root=at).settings
        return History.read(Experiment.from_settings(settings)).status("collect").state

    assert state(root) == "done"
    moved = rename(root, "two").root
    assert state(moved) == "done"
    (moved / "prompts.txt").write_text("Other.\n")
    assert state(moved) == "outdated"


def test_archived_is_hidden_and_nothing_else(home: Path):
    root = _experiment(home, "one")
    before = (root.stat().st_mtime_ns, trees.measure(root).files)
    for _ in range(2):
        archive(root)
    assert (root.stat().st_mtime_ns, trees.measure(root).files) == (before[0], before[1] + 1)
    for _ in range(2):
        archive(root, archived=False)
    assert (root.stat().st_mtime_ns, trees.measure(root).files) == before


def test_what_runs_is_not_archived_but_can_be_taken_back(home: Path, capsys: pytest.CaptureFixture[str]):
    from tests.tui.simulated import SimulatedRun

    idle, root = _experiment(home, "idle"), _experiment(home, "one")
    live = SimulatedRun(Experiment.open(root), "train", alive=True)
    try:
        with pytest.raises(UsageError, match=r"train.* is running in .*; stop it or wait until it ends\."):
            archive(root)
        assert main(["experiments", "archive", "idle", "one"]) != 0
        assert "is running in" in capsys.readouterr().err
        assert not (idle / ARCHIVED).exists()
        (root / ARCHIVED).touch()
        archive(root, archived=False)
        assert not (root / ARCHIVED).exists()
    finally:
        live.end_process()


def test_deleting_follows_no_link_and_finishes_what_was_interrupted(home: Path, tmp_path: Path):
    outside = _experiment(tmp_path / "elsewhere", "theirs")
    root = _experiment(home, "one", f"CHECKPOINTS_DIR={tmp_path}/ckpt\n")
    (root / "link").symlink_to(outside)
    (root / "data" / "file-link").symlink_to(outside / "data" / "x")
    (root / "loop").symlink_to(root)
    left = home / ".deleting" / "killed-1234"
    (left / "logs").mkdir(parents=True)
    assert _names(home) == ["one"]
    found = holding(root)
    assert (found.files, found.running, found.outside) == (5, "", (tmp_path / "ckpt",))
    delete(root)
    assert not any(home.iterdir())
    assert (outside / "data" / "x").exists()
    assert (tmp_path / "ckpt").is_dir()


def test_what_cannot_be_removed_is_named(home: Path, monkeypatch: pytest.MonkeyPatch):
    root = _experiment(home, "one")
    monkeypatch.setattr(trees, "remove", lambda _: PermissionError(13, "Permission denied", "x"))
    with pytest.raises(BitnetError, match=r"is no longer an experiment, but .*Permission denied.*\.deleting/one-"):
        delete(root)
    assert _names(home) == []


def test_a_link_in_place_of_the_folder_for_deletion_moves_nothing_out(home: Path, tmp_path: Path):
    root = _experiment(home, "one")
    (tmp_path / "trap").mkdir()
    (home / ".deleting").symlink_to(tmp_path / "trap")
    with pytest.raises(UsageError, match="is a link"):
        delete(root)
    assert (root / "data" / "x").exists()
    assert not any((tmp_path / "trap").iterdir())


@pytest.mark.parametrize("change", [lambda root: rename(root, "two"), delete])
@pytest.mark.parametrize("what", ["stage", "record", "launch", "push", "upload", "export"])
def test_nothing_is_done_while_something_is_at_work(home: Path, what: str, change, monkeypatch: pytest.MonkeyPatch):
    from tests.tui.simulated import SimulatedRun

    root = _experiment(home, "one")
    experiment, live = Experiment.open(root), None
    if what in ("record", "upload"):
        live = SimulatedRun(experiment, "train" if what == "record" else "upload", alive=True)
        held = None
    elif what == "push":
        held = exclusive(root)
    elif what == "launch":
        monkeypatch.setattr("bitnet_core.runs.launch._DYING_SECONDS", 0.05)
        held = launch_lock(experiment)
    elif what == "export":
        held = export_lock(experiment, on_wait=lambda: None)
    else:
        held = locked(lock_path(experiment, "collect"))
    entered, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with held:
            entered.set()
            leave.wait(30)

    holder = threading.Thread(target=hold)
    try:
        if held is not None:
            holder.start()
            assert entered.wait(30)
        with pytest.raises(BitnetError) as refused:
            change(root)
        assert str(refused.value).endswith(".")
        assert isinstance(refused.value, Busy) == (what == "push")
        assert _names(home) == ["one"]
    finally:
        leave.set()
        if held is not None:
            holder.join()
        if live is not None:
            live.end_process()
    change(root)
    assert _names(home) in ([], ["two"])


def test_a_launch_that_waited_for_a_rename_starts_nothing(home: Path):
    """It got the lock's file under the old name; nothing may be written there again."""
    from bitnet_core.runs import launch

    root = _experiment(home, "one")
    experiment = Experiment.open(root)
    rename(root, "two")
    with pytest.raises(OSError, match="No such file"):
        launch._prepare(experiment, "train", ["test"])
    assert not root.exists()


def test_a_launch_whose_settings_are_from_before_a_rename_begins_nothing_anew(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    """A new folder under the old name would have no journal: every answer would be paid for again."""
    from bitnet_core.runs import launch

    root = _experiment(home, "one")
    resolution = resolve(root=root)
    rename(root, "two")
    gone = (
        r"one was removed after its settings were read; if it was renamed or moved, give its new place with --root\."
    )
    with pytest.raises(UsageError, match=gone):
        launch.launch(resolution.settings, "collect", env_files=resolution.env_files)
    assert not root.exists()
    rename(home / "two", "one")
    ensure = Experiment.ensure
    monkeypatch.setattr(Experiment, "ensure", lambda self: (rename(root, "two"), ensure(self))[1])
    with pytest.raises(UsageError, match=gone):
        launch.launch(resolution.settings, "collect", env_files=resolution.env_files)
    assert not any((root / "logs").glob("collect-*"))


def test_a_broken_experiment_can_be_deleted(home: Path):
    root = _experiment(home, "one")
    (root / ".env").write_bytes(b"SEED=\xff\n")
    delete(root)
    assert _names(home) == []
    assert changes._opened(_experiment(home, "two")).logs == home / "two" / "logs"


def test_the_commands(home: Path, capsys: pytest.CaptureFixture[str]):
    def said(*arguments: str, code: int = 0) -> str:
        assert main([*arguments]) == code
        out, complaint = capsys.readouterr()
        return out + complaint

    _experiment(home, "one")
    _experiment(home, "two")
    assert "two" in said("experiments")
    assert said("experiments", "rename", "one", "three").endswith("one is now three\n")
    said("experiments", "archive", "three")
    assert "three" not in said("experiments", "list")
    listed = [json.loads(line) for line in said("--json", "experiments", "list", "--all").splitlines()]
    assert {one["name"]: one["archived"] for one in listed} == {"two": False, "three": True}
    said("experiments", "unarchive", "three")
    words = said("experiments", "delete", "three", "two", code=2)
    assert "three: 3 files, 1.1 kB; no copy elsewhere is known" in words
    assert "Nothing was deleted" in words
    report = json.loads(said("experiments", "--json", "delete", "two"))
    assert (report["deleted"], report["experiments"][0]["files"]) == (False, 2)
    assert "no experiment 'four'" in said("experiments", "delete", "--yes", "three", "four", code=2)
    assert said("experiments", "delete", "--yes", "three", "two", "two").count("deleted") == 2
    assert "holds no experiment" in said("experiments")
