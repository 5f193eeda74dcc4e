"""A `.env` that is not a regular file: a pipe's settings count, and one that can't be read stops every command."""

import io
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from bitnet_core.cli.main import main
from bitnet_core.errors import UsageError
from bitnet_core.files import inputs
from bitnet_core.process import python
from bitnet_core.runs.experiment import is_experiment
from bitnet_core.secrets.inventory import Inventory
from bitnet_core.settings.resolve import resolve

TEXT = "SEED=77\nKD_MAX_USD=1.5\n"
KEY = "OPENAI_API_KEY"
PLACES = {"./.env": ".env", "the experiment's": "exp/.env", "--env": "given"}


def arguments(place: str) -> list[str]:
    return ["--root", "exp", *(["--env", PLACES[place]] if place == "--env" else [])]


def pipe(path: Path, text: str) -> None:
    """A named pipe that gives the text once; one process reads it no more often."""
    os.mkfifo(path)
    threading.Thread(target=path.write_text, args=[text], daemon=True).start()


@pytest.fixture(autouse=True)
def experiment(isolated: Path) -> Path:
    (isolated / "exp" / "logs").mkdir(parents=True)
    return isolated / "exp"


@pytest.mark.parametrize("place", PLACES)
def test_settings_in_a_pipe_count(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(PLACES[place])
    pipe(path, TEXT)
    for command in (["config"], ["config", "--check"], ["keys", "list"]):
        assert main([*arguments(place), *command]) == 0
    path.unlink()
    said = capsys.readouterr().out
    assert "settings are fine" in said
    values = {words[0]: words[1:] for line in said.splitlines() if len(words := line.split()) > 1}
    assert values["KD_MAX_USD"] == ["1.5", str(path), "line", "2"]
    assert values["SEED"][0] == "77"


def test_process_substitution_is_read_by_a_command() -> None:
    command = (
        f"{shlex.quote(sys.executable)} -m bitnet_core --env <(printf 'SEED=77\\nKD_MAX_USD=1.5\\n') --json config"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert '{"name": "KD_MAX_USD", "value": 1.5,' in done.stdout


UNREADABLE: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a dangling link": lambda path: path.symlink_to("/nowhere/.env"),
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a pipe that nobody fills": lambda path: os.mkfifo(path),
    "binary": lambda path: path.write_bytes(b"KD_MAX_USD=\0\n") and None,
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_cannot_be_read_stops_every_command(
    place: str, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inputs, "UNOPENED_SECONDS", 0.1)
    path = Path(PLACES[place])
    UNREADABLE[kind](path)
    for command in (["config", "--check"], ["config"], ["runs"], ["collect"], ["keys"]):
        assert main([*arguments(place), *command]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert said.err.startswith(f"bitnet: {path.absolute() if place != '--env' else ''}")


def test_an_experiment_is_known_by_a_pipe_or_any_folder_of_its_own_and_not_by_a_folder_of_that_name(
    isolated: Path,
) -> None:
    """Virtual environments are called `.env`, too."""
    for name, make, expected in (
        ("piped", lambda path: os.mkfifo(path), True),
        ("dangling", lambda path: path.symlink_to("/nowhere"), True),
        ("virtual", Path.mkdir, False),
    ):
        (isolated / name).mkdir()
        make(isolated / name / ".env")
        assert is_experiment(isolated / name) == expected
    for name, expected in (("data.projected", True), ("data.journal", True), ("data.notes", False)):
        (isolated / f"only {name}" / name).mkdir(parents=True)
        assert is_experiment(isolated / f"only {name}") == expected


@pytest.mark.parametrize("command", [["keys", "set", KEY, "--plain-text"], ["keys", "move", KEY]])
def test_a_key_is_neither_written_into_a_pipe_nor_moved_out_of_it(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], isolated: Path
) -> None:
    pipe(Path(".env"), f"{KEY}=sk-canary-0123456789\n")
    monkeypatch.setattr(sys, "stdin", (isolated / "typed").open("w+"))
    sys.stdin.write("sk-another-0123456789\n")
    sys.stdin.seek(0)
    assert main(command) == 2
    assert Path(".env").is_fifo()
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "can't be changed here" in said or "No .env holds a value of OPENAI_API_KEY that can be moved" in said
    assert not Inventory.of(resolve()).status([KEY])[1][0].movable
    Path(".env").unlink()


def test_a_key_that_is_in_a_pipe_and_in_a_file_stays_in_both(isolated: Path) -> None:
    pipe(Path(".env"), f"{KEY}=sk-canary-0123456789\n")
    text = f"{KEY}=sk-canary-0123456789\n"
    (isolated / "exp" / ".env").write_text(text)
    inventory = Inventory.of(resolve({"BITNET_VAULT": "v.json"}, root=isolated / "exp"))
    with pytest.raises(UsageError, match=r"\.env is not a regular file"):
        inventory.move(KEY, "vault", lambda *_: "correct horse")
    assert (isolated / "exp" / ".env").read_text() == text
    assert not Path("v.json").exists()
    Path(".env").unlink()


@pytest.mark.parametrize("command", ["config --check", "generate hello", "export hf", "traces score", "bench list"])
def test_a_working_folder_that_is_gone_is_called_that(command: str, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    try:
        done = subprocess.run(python("bitnet_core", *command.split()), capture_output=True, text=True, check=False)
    finally:
        os.chdir(tmp_path)
    assert done.returncode == 2
    assert done.stderr == (
        "bitnet: The working folder is gone or can't be entered (No such file or directory); "
        "change to another one (cd).\n"
    )


@pytest.mark.parametrize("arguments", [[], ["--plain-text"]])
def test_a_key_with_a_nul_character_is_refused(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("sk-canary\0-0123456789\n"))
    assert main(["keys", "set", KEY, *arguments]) == 2
    said = capsys.readouterr().err
    assert "The value of OPENAI_API_KEY has a NUL character" in said
    assert "canary" not in said
    assert not Path(".env").exists()
