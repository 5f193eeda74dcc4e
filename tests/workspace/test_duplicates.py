"""A duplicate has the settings of its source and, if they are wanted, its traces; neither writes into the other."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import BitnetError, UsageError
from bitnet_core.files import locked
from bitnet_core.runs.experiment import Experiment, Workspace
from bitnet_core.runs.history import History
from bitnet_core.runs.launch import lock_path
from bitnet_core.workspace import duplicates
from bitnet_core.workspace.duplicates import duplicate
from tests.tui.simulated import NOON, SimulatedRun

_MADE = "checkpoints/.made-start-0a1b.pt"
_JOURNAL = "data.journal/journal.sqlite"
_BROUGHT = ("data/kd_shard_000.parquet", "data/_tokenizer/tokenizer.json", "data/.sequences/part_000.parquet")


@pytest.fixture
def source(home: Path) -> Path:
    root = Workspace(home).create("one", "LR=1e-3\nKD_PROMPTS_FILE=own.txt\nHF_TOKEN=secret\n")
    Experiment.open(root).ensure()
    for name in (*_BROUGHT, _JOURNAL, f"{_JOURNAL}-wal", "data/.kd.lock", "data/.x.1-2.part"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_settings_are_copied_and_keys_are_not(source: Path):
    done = duplicate(source, "two")
    assert (done.root / ".env").read_text().splitlines()[1:] == ["LR=1e-3", f"KD_PROMPTS_FILE={source}/own.txt"]
    assert (done.keys, done.traces) == (("HF_TOKEN",), None)
    assert sorted(one.name for one in done.root.iterdir()) == [".env"]


@pytest.mark.parametrize("linking", [True, False])
def test_traces_come_with_their_tokenizer_and_journal(source: Path, linking: bool, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    for name in (_MADE, "checkpoints/.start-read.pt", "checkpoints/mini_bitnet_step_00000000.pt"):
        (source / name).write_text(name)
    if not linking:
        monkeypatch.setattr(duplicates.os, "link", refuse)
    done = duplicate(source, "two", traces=True)
    root = done.root
    assert done.start
    found = {str(one.relative_to(root)) for one in root.rglob("*") if one.is_file()}
    assert found == {".env", *_BROUGHT, _JOURNAL, f"{_JOURNAL}-wal", _MADE}
    assert all((root / name).read_text() == name for name in found - {".env"})
    same = {name for name in found if (source / name).samefile(root / name)}
    assert same == ({one for one in (*_BROUGHT, _MADE) if one.endswith((".parquet", ".pt"))} if linking else set())
    assert History.read(Experiment.open(root)).lacking("train") == ()


def test_the_baseline_of_the_same_teacher_comes_with_the_traces(home: Path, source: Path):
    """As long as it is what the teacher would get now; the experiment's name is no reason."""
    run = SimulatedRun(Experiment.open(source), "teacher", NOON)
    run.finish()
    (source / "reports" / "teacher_baseline.json").write_text("{}")
    assert duplicate(source, "two", traces=True).baseline
    history = History.read(Experiment.open(home / "two"))
    assert history.status("teacher").state == "done"
    assert history.lacking("eval") == ("train",)
    assert [one.run.id for one in history.entries] == [run.run.id]
    assert not duplicate(source, "three").baseline and not (home / "three" / "logs").exists()
    with (source / ".env").open("a") as env:
        env.write("TEACHER_PROVIDER=openai\n")
    assert not duplicate(source, "four", traces=True).baseline
    assert not (home / "four" / "reports").exists()


def test_without_traces_there_is_nothing_to_bring(home: Path):
    root = Workspace(home).create("one")
    with pytest.raises(UsageError, match="one has no traces; "):
        duplicate(root, "two", traces=True)
    (root / "data").symlink_to("data")  # what can't be read may hold some
    with pytest.raises(BitnetError, match="one/data can't be read "):
        duplicate(root, "two", traces=True)
    assert [one.name for one in Workspace(home).experiments()] == ["one"]


def test_settings_are_copied_from_where_data_cannot_be_read(home: Path):
    root = Workspace(home).create("one")
    (root / "data").symlink_to("data")
    assert duplicate(root, "two").traces is None


def test_while_they_are_collected_traces_stay_where_they_are(home: Path, source: Path):
    lock = lock_path(Experiment.open(source), "collect")
    lock.touch()
    with locked(lock), pytest.raises(UsageError, match="collect is running in "):
        duplicate(source, "two", traces=True)
    assert [one.name for one in Workspace(home).experiments()] == ["one"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), r" \(No space left on device\); free space there"),
        (
            PermissionError(13, "Permission denied", "/x"),
            r": /x \(Permission denied\); check its permissions, or leave",
        ),
    ],
)
def test_a_copy_that_fails_leaves_nothing(
    home: Path, source: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, told: str
):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(duplicates.shutil, "copyfile", fail)
    with pytest.raises(BitnetError, match=f"The traces can't be copied{told}"):
        duplicate(source, "two", traces=True)
    assert [one.name for one in home.iterdir()] == ["one"]


def test_a_copy_that_is_killed_takes_no_name_and_is_removed_by_the_next_one(home: Path, source: Path):
    script = (
        "import os, sys; from pathlib import Path; from bitnet_core.workspace import duplicates\n"
        "duplicates.shutil.copyfile = lambda *_: os.kill(os.getpid(), 9)\n"
        "duplicates.duplicate(Path(sys.argv[1]), 'two', traces=True)"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(source)], check=False)
    assert killed.returncode == -9
    assert [one.name for one in Workspace(home).experiments()] == ["one"]
    assert duplicate(source, "two", traces=True).traces is not None
    assert sorted(one.name for one in home.iterdir()) == ["one", "two"]


def test_the_command_says_what_was_brought(home: Path, source: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["experiments", "duplicate", "one", "two", "--traces", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"duplicated": "one", "folder": str(home / "two"), "keys_left": ["HF_TOKEN"],
                    "traces": {"files": 3, "bytes": sum(map(len, _BROUGHT))},
                    "baseline": False, "start": False}  # fmt: skip
    assert main(["experiments", "duplicate", "one", "three"]) == 0
    said = capsys.readouterr()
    assert "three has the settings of one\n" in said.out
    assert "HF_TOKEN in the .env of one is not copied" in said.err
    assert main(["experiments", "duplicate", "one", "two"]) != 0
    assert "already exists" in capsys.readouterr().err
